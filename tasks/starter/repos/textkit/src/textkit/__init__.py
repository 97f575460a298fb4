"""Small, dependency-free helpers for plain text."""

from textkit.case import camel_case, kebab_case, pascal_case, snake_case, split_words, title_case
from textkit.distance import closest, edit_distance
from textkit.slug import slugify, unique_slug
from textkit.table import format_table
from textkit.wrap import fill, indent, shorten, wrap

__all__ = [
    "camel_case",
    "closest",
    "edit_distance",
    "fill",
    "format_table",
    "indent",
    "kebab_case",
    "pascal_case",
    "shorten",
    "slugify",
    "snake_case",
    "split_words",
    "title_case",
    "unique_slug",
    "wrap",
]
