"""What pyproject.toml can't say: a wheel also holds the shipped model and data, which a checkout has in its root."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = {
    "models/captions": "mtpareto/shipped/captions",
    "data": "mtpareto/shipped",
}
KINDS = (".gz", ".json", ".jsonl", ".safetensors", ".yaml")


class WithShippedFiles(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source, target in SHIPPED.items():
            for file in sorted((ROOT / source).iterdir()):
                if file.suffix in KINDS:
                    self.copy_file(str(file), str(Path(self.build_lib, target, file.name)))

    def copy_file(self, infile: str, outfile: str, **keywords: object) -> object:
        self.mkpath(str(Path(outfile).parent))
        return super().copy_file(infile, outfile, **keywords)


setup(cmdclass={"build_py": WithShippedFiles})
