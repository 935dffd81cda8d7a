"""Version of the code, as progress records and artifacts name it; a test holds it against ``pyproject.toml``."""

CODE_VERSION = "0.1.0"
