// DeepSpeed's operations for files on fast disks, as DeepSpeed ships their sources: two modules in
// one library, `pin_memory` and `async_io`. DeepSpeed itself would compile them into the home
// directory when a run first needs them.

#include <sys/mman.h>
#include <torch/extension.h>

// Locks memory if the user may (`ulimit -l`). Files can be read into memory that is not locked, so
// that a limit, which is 8 MiB by default, is no reason to abort, as DeepSpeed does.
static int lock_if_allowed(const void* address, size_t size) {
  (void)mlock(address, size);
  return 0;
}

#undef TORCH_EXTENSION_NAME
#define TORCH_EXTENSION_NAME pin_memory
#include "pin_memory/deepspeed_pin_tensor.cpp"
#define mlock lock_if_allowed
#include "pin_memory/page_alloc.cpp"
#undef mlock
#include "pin_memory/py_ds_pin_memory.cpp"

#undef TORCH_EXTENSION_NAME
#define TORCH_EXTENSION_NAME async_io
#include "aio/common/deepspeed_aio_types.cpp"
// Constants that several of the sources have, each for itself.
#define c_block_size c_block_size_of_utils
#define c_io_queue_depth c_io_queue_depth_of_utils
#include "aio/common/deepspeed_aio_utils.cpp"
#undef c_block_size
#undef c_io_queue_depth
#include "aio/common/deepspeed_aio_common.cpp"
#include "aio/py_lib/deepspeed_aio_op_desc.cpp"
#include "aio/py_lib/deepspeed_aio_thread.cpp"
#include "aio/py_lib/deepspeed_cpu_op.cpp"
#include "aio/py_lib/deepspeed_py_aio_handle.cpp"
#include "aio/py_lib/deepspeed_py_io_handle.cpp"
#define c_library_name c_library_name_of_py_aio
#include "aio/py_lib/deepspeed_py_aio.cpp"
#undef c_library_name
#include "aio/py_lib/deepspeed_py_copy.cpp"
#include "aio/py_lib/py_ds_aio.cpp"
