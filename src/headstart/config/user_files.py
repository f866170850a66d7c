"""Config files of a user, read within bounds, with what is wrong with one as one message that names it."""

from pathlib import Path

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from headstart.errors import InputError
from headstart.system import bounded

MOST_BYTES = 1_000_000
MOST_VALUES = 20_000
"""Values in one file, aliases written out: OmegaConf takes its time for each."""


class FileConfigSource(file_config_source.FileConfigSource):
    """A folder of configs, as Hydra reads it.

    Of the same name as Hydra's, which a launcher's process registers anew and then takes to be there.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """As Hydra's. Raises `InputError` for a file that is too large, too deep, no YAML, or no settings."""
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            bounded.check_yaml(bounded.text(path, MOST_BYTES), MOST_VALUES)
            found = super().load_config(config_path)
        except FileNotFoundError:
            return super().load_config(config_path)
        except (YAMLError, OmegaConfBaseException, OSError, ValueError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path} is no config: {reason[:300]}. Mend the file.") from error
        return found


def use_checked_files() -> None:
    """Make Hydra read every folder of configs so, once its plugins are there."""
    SourcesRegistry.instance().types["file"] = FileConfigSource
