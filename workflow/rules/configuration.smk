# Where Seedbed lies, how mistakes are told, and a strict look at the files with the configuration.
#
# Snakemake takes the last of two equal keys, follows any alias and has tracebacks for what is not YAML. It reads the files
# of `--configfile` before any of this, and config.yaml afterwards.
import os
import sys
from contextlib import contextmanager
from pathlib import Path

# `workflow.basedir` is that of the main workflow, which may be another one that uses this as a module.
CODE = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, str(CODE))

from seedbed.config.yaml_file import read_yaml
from seedbed.errors import SeedbedError, choices

# A colon would end the path in PYTHONPATH; Snakemake formats the places of rules' files.
if set(":{}") & set(str(CODE)):
    sys.exit(f"error: {SeedbedError(f'{CODE}: Seedbed lies here; expected a path without colons and braces')}")


@contextmanager
def mistakes_reported(where=None):
    """End the workflow with one line at a mistake of the user, or at a file that cannot be read or written."""
    try:
        yield
    except SeedbedError as error:
        sys.exit(f"error: {SeedbedError(f'{where}: {error}') if where else error}")
    except OSError as error:
        if error.errno is None:
            raise
        sys.exit(f"error: {SeedbedError(f'{error.filename}: {error.strerror}')}")


def relative(path):
    """A path as seen from the working directory, if it is below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


# Without --configfile: that of the working directory, else the one that comes with Seedbed.
CONFIG_FILE = "config.yaml" if os.path.exists("config.yaml") else relative(CODE / "config.yaml")

if workflow.modifier.is_main_snakefile():
    with mistakes_reported():
        for path in workflow.config_settings.configfiles or [Path(CONFIG_FILE)]:
            if not read_yaml(relative(path)):
                raise SeedbedError(f"{relative(path)}: is empty; expected keys such as runs and studies")
