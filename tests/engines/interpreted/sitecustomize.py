"""vLLM's model runner V2 on a processor: Python loads this where PYTHONPATH names its folder.

V2 launches Triton kernels. Triton compiles for no processor, but TRITON_INTERPRET=1 has it run them
one operation at a time, which vLLM's own CPU classes of V2 take as they would a compiler. Four
things are put right for that, in Triton alone; nothing of vLLM's is replaced.
"""

import inspect
import os
from types import SimpleNamespace

if os.environ.get("TRITON_INTERPRET") == "1":
    import numpy as np
    import triton.backends
    import triton.language as tl
    from triton.language.extra import libdevice
    from triton.runtime import interpreter

    # vLLM for the CPU looks for a back end of that name, and then lets Triton launch kernels.
    driver = type("Driver", (), {"is_active": staticmethod(lambda: True)})
    triton.backends.backends["cpu"] = SimpleNamespace(driver=driver, compiler=None)

    # The interpreter patches Triton's language anew at each call of a function; once is enough.
    patch, patched = interpreter._patch_lang, set()

    def patch_once(function):
        if function not in patched:
            patched.add(function)
            langs = [v for v in function.__globals__.values() if inspect.ismodule(v)]
            key = (tl in langs, tl.core in langs)
            if key not in patched:
                patched.add(key)
                patch(function)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = patch_once

    # A mask may come out of its arithmetic as numbers, which its memory does not take.
    memory = interpreter._interpreter
    interpreter._interpreter = SimpleNamespace(
        **{name: getattr(memory, name) for name in dir(memory) if not name.startswith("_")}
        | {
            "load": lambda ptrs, mask, *rest: memory.load(ptrs, mask.astype(bool), *rest),
            "store": lambda ptrs, value, mask: memory.store(ptrs, value, mask.astype(bool)),
        }
    )

    # The interpreter has no device library; one function of it is called.
    def log1p(x):
        with np.errstate(all="ignore"):
            return tl.tensor(
                interpreter.TensorHandle(np.log1p(x.handle.data), x.handle.dtype), x.type
            )

    libdevice.log1p = log1p
