"""Workers: this thread, several threads or processes, or a cluster, all with the same bits.

with nn.workers.processes(4) as executor:
    trained = nn.train(recipe, data, executor=executor)
"""

# Import all of them here: a submodule imported later would replace the function of the same name.
from pydnn.workers.dask import dask
from pydnn.workers.interface import Executor, Result, Spec, Task
from pydnn.workers.processes import processes
from pydnn.workers.serial import serial
from pydnn.workers.threads import threads

__all__ = ["Executor", "Result", "Spec", "Task", "dask", "processes", "serial", "threads"]
