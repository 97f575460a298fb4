import textkit


def test_split_words_knows_acronyms_and_digits():
    assert textkit.split_words("HTTPServer_error-404") == ["HTTP", "Server", "error", "404"]


def test_split_words_of_nothing():
    assert textkit.split_words(" -- ") == []


def test_snake_and_kebab():
    assert textkit.snake_case("parseHTMLDocument") == "parse_html_document"
    assert textkit.kebab_case("Some plain words") == "some-plain-words"


def test_pascal_and_camel():
    assert textkit.pascal_case("user_account id") == "UserAccountId"
    assert textkit.camel_case("User account_id") == "userAccountId"
    assert textkit.camel_case("") == ""


def test_title_case_leaves_small_words_inside():
    assert textkit.title_case("the lord of the rings") == "The Lord of the Rings"
    assert textkit.title_case("what is it for") == "What Is It For"
