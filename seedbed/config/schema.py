"""The JSON schema of the configuration, for editors.

python -m seedbed.config.schema workflow/schemas/config.schema.json
"""

import json
import sys

from seedbed.config.load import Config
from seedbed.files import write_text


def schema_text() -> str:
    schema = Config.model_json_schema(by_alias=True)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    write_text(sys.argv[1], schema_text())
