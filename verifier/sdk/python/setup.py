"""Build hook: the wire contract is compiled from proto/ into the package."""
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent))
from build_contract import build  # noqa: E402


class BuildWithContract(build_py):
    def run(self):
        build()
        super().run()


setup(cmdclass={"build_py": BuildWithContract})
