"""One row of each family of data sets, shaped as they are published (columns, types, order of keys)."""

from __future__ import annotations

import json
from typing import Any

COMMIT = "d16bfe05a744909de4b27f5875fe0d4ed41ce607"
FIX = """diff --git a/src/area.py b/src/area.py
index 1f2e3d4..5a6b7c8 100644
--- a/src/area.py
+++ b/src/area.py
@@ -1,2 +1,2 @@ def area
 def area(w, h):
-    return w + h
+    return w * h
"""
BUG = """diff --git a/src/area.py b/src/area.py
index 5a6b7c8..1f2e3d4 100644
--- a/src/area.py
+++ b/src/area.py
@@ -1,2 +1,2 @@ def area
 def area(w, h):
-    return w * h
+    return w + h
"""
TESTS = """diff --git a/tests/test_area.py b/tests/test_area.py
--- a/tests/test_area.py
+++ b/tests/test_area.py
@@ -1,0 +1,2 @@
+def test_area():
+    assert area(2, 3) == 6
"""
F2P, P2P = (
    ["tests/test_area.py::test_area"],
    ["tests/test_area.py::test_old", "tests/test_line.py::test_len[a b]"],
)

CLASSIC: dict[str, Any] = {
    "repo": "astropy/astropy",
    "instance_id": "astropy__astropy-12907",
    "base_commit": COMMIT,
    "patch": FIX,
    "test_patch": TESTS,
    "problem_statement": "Areas are wrong.\r\nSee `area(2, 3)` \u2013 it is 5.\r\n",
    "hints_text": "",
    "created_at": "2022-03-03T15:14:54Z",
    "version": "4.3",
    "FAIL_TO_PASS": json.dumps(F2P),
    "PASS_TO_PASS": json.dumps(P2P),
    "environment_setup_commit": "298ccb478e6bf092953bca67a3d29dc6c35f6752",
}
VERIFIED = {**CLASSIC, "difficulty": "15 min - 1 hour", "hints_text": None}
DJANGO = {
    **CLASSIC,
    "repo": "django/django",
    "instance_id": "django__django-11099",
    "FAIL_TO_PASS": json.dumps(["test_ascii_validator (auth_tests.test_validators.UsernameValidatorsTests)"]),
    "PASS_TO_PASS": json.dumps(['Help text: it\'s all "fine" (auth_tests.test_validators.PasswordTest)']),
}
SYMPY = {
    **CLASSIC,
    "repo": "sympy/sympy",
    "instance_id": "sympy__sympy-20590",
    "FAIL_TO_PASS": '["test_immutable"]',
    "PASS_TO_PASS": '["test_equality", "test_piecewise"]',
}
VERSION_5 = {
    "instance_id": "psf__requests-1142",
    "repo": "psf/requests",
    "version": "1.1",
    "base_commit": COMMIT,
    "image": "swebench/sweb.eval.x86_64.psf_1776_requests-1142:latest",
    "log_parser": "parse_log_pytest_options",
    "eval_type": "pass_and_fail",
    "created_at": "2013-01-25T05:19:16Z",
    "difficulty": "<15 min fix",
    "patch": FIX,
    "test_patch": TESTS,
    "eval_script": "#!/bin/bash\nset -uxo pipefail\ncd /testbed\n: '>>>>> Start Test Output'\n"
    "pytest -rA tests/test_area.py\n: '>>>>> End Test Output'\n",
    "problem_statement": "requests.get is ALWAYS sending content length",
    "hints_text": "This is surprising.\n",
    "FAIL_TO_PASS": F2P,
    "PASS_TO_PASS": P2P,
}
SMITH = {
    "instance_id": "oauthlib__oauthlib.1fd52536.combine_file__09vlzwgc",
    "repo": "swesmith/oauthlib__oauthlib.1fd52536",
    "patch": BUG,
    "FAIL_TO_PASS": F2P,
    "PASS_TO_PASS": P2P,
    "image_name": "jyangballin/swesmith.x86_64.oauthlib_1776_oauthlib.1fd52536",
    "problem_statement": "",
}
REBENCH = {
    "instance_id": "0b01001001__spectree-64",
    "base_commit": COMMIT,
    "created_at": "2020-10-12 13:21:50",
    "environment_setup_commit": COMMIT,
    "hints_text": "",
    "patch": FIX,
    "problem_statement": "The type is lost",
    "repo": "0b01001001/spectree",
    "test_patch": TESTS,
    "meta": {
        "commit_name": "head_commit",
        "failed_lite_validators": ["has_hyperlinks"],
        "has_test_patch": True,
        "is_lite": False,
        "llm_score": {"difficulty_score": 1, "issue_text_score": 2, "test_score": 0},
        "num_modified_files": 1,
    },
    "version": "0.3",
    "install_config": {
        "env_vars": None,
        "env_yml_path": None,
        "install": "pip install -e .[flask]",
        "log_parser": "parse_log_pytest",
        "no_use_env": None,
        "packages": "requirements.txt",
        "pip_packages": ["pytest"],
        "pre_install": None,
        "python": "3.9",
        "reqs_path": ["requirements.txt"],
        "test_cmd": "pytest --no-header -rA --tb=line --color=no",
    },
    "requirements": "annotated-types==0.7.0\nanyio==4.9.0\n",
    "environment": "name: spectree\nchannels:\n  - defaults\n",
    "FAIL_TO_PASS": F2P,
    "FAIL_TO_FAIL": [],
    "PASS_TO_PASS": P2P,
    "PASS_TO_FAIL": [],
    "license_name": "Apache License 2.0",
    "docker_image": "swerebench/sweb.eval.x86_64.0b01001001_1776_spectree-64",
}
ALL = (CLASSIC, DJANGO, SYMPY, VERSION_5, SMITH, REBENCH)
