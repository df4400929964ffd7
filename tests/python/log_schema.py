"""Holds lines of the server log against a JSON Schema, with the library jsonschema.

    log_schema.py SCHEMA < lines

Prints one line for each: "ok", or what is wrong.
"""

import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1]) as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for line in sys.stdin:
    error = next(validator.iter_errors(json.loads(line)), None)
    print("ok" if error is None else json.dumps(error.message))
