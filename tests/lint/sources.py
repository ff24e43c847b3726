"""What the lint scripts share: the list of source files, and C text without comments and strings."""
import pathlib
import re

SUFFIXES = {".c", ".h", ".S", ".cc"}
FOLDERS = ("include", "runtime", "io", "sync", "tests", "examples", "bench", "tools")

_TOKENS = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.S | re.X)


def files(root, folders=FOLDERS):
    """Every C, C++ and assembly file of the tree, as paths relative to its root."""
    found = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                found.append(path.relative_to(root))
    return found


def without_comments(text, keep_strings=False):
    """The text with comments (and strings) blanked out and every line where it was."""
    def blank(match):
        token = match.group(0)
        if keep_strings and token[0] in "\"'":
            return token
        body = "\n" * token.count("\n")
        return '""' + body if token[0] == '"' else body or " "
    return _TOKENS.sub(blank, text)


def read(root, path):
    return pathlib.Path(root, path).read_text(encoding="utf-8")
