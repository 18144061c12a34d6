"""Compiled programs on disk."""

import subprocess
import sys

CODE = """
import sys, time
import jax, jaxmlp
jaxmlp.use_compilation_cache(sys.argv[1])
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.jit(lambda x: x * 2 + 1)(jax.numpy.ones(3)).block_until_ready()
print(sum("cache_hits" in event for event in hits))
"""


def test_a_second_process_loads_its_programs_from_the_folder(tmp_path):
    def run():
        command = [sys.executable, "-c", CODE, str(tmp_path / "cache")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert run() == 0
    kept = {path.name for path in (tmp_path / "cache").iterdir() if path.name.endswith("-cache")}
    assert kept
    assert run() >= 1
