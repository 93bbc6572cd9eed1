// A CUDA driver for machines without one: it answers as a GPU would and writes each call that
// matters to a file, so that the launcher can be tested. It runs nothing.
//
// FAKE_CUDA_LOG         the file to append to
// FAKE_CUDA_CAPABILITY  compute capability of its devices, such as 90
// FAKE_CUDA_PARAMETERS  types of each kernel's parameters, as "name=ppfi;name=p;": p pointer,
//                       f float, i int32, l int64
// FAKE_CUDA_FAIL        a function that fails with error 209
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kComputeCapabilityMajor = 75, kError = 209 };

static void Log(const char* format, ...) {
  FILE* file = fopen(getenv("FAKE_CUDA_LOG"), "a");
  va_list arguments;
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  fclose(file);
}

static int Result(const char* function) {
  const char* fails = getenv("FAKE_CUDA_FAIL");
  return fails != NULL && strcmp(fails, function) == 0 ? kError : 0;
}

int cuInit(unsigned flags) {
  (void)flags;
  return Result("cuInit");
}

int cuGetErrorString(int error, const char** text) {
  *text = error == kError ? "no kernel image is available" : "unknown";
  return 0;
}

int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return Result("cuDeviceGet");
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  (void)device;
  const int capability = atoi(getenv("FAKE_CUDA_CAPABILITY"));
  *value = attribute == kComputeCapabilityMajor ? capability / 10 : capability % 10;
  return 0;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = (void*)(uintptr_t)(0x1000 + device);
  Log("retain device=%d\n", device);
  return 0;
}

int cuCtxPushCurrent_v2(void* context) {
  Log("push context=%p\n", context);
  return 0;
}

int cuCtxPopCurrent_v2(void** context) {
  *context = NULL;
  Log("pop\n");
  return 0;
}

// A number that tells cubins apart: FNV-1a over the bytes of an ELF file, which end with one of its
// two tables.
static uint32_t Fingerprint(const void* image) {
  const Elf64_Ehdr* header = image;
  const uint64_t sections_end = header->e_shoff + header->e_shentsize * header->e_shnum;
  const uint64_t segments_end = header->e_phoff + header->e_phentsize * header->e_phnum;
  const uint64_t size = sections_end > segments_end ? sections_end : segments_end;
  uint32_t hash = 2166136261u;
  for (uint64_t i = 0; i < size; ++i) hash = (hash ^ ((const uint8_t*)image)[i]) * 16777619u;
  return hash;
}

int cuModuleLoadData(void** module, const void* image) {
  Log("load fingerprint=%u\n", Fingerprint(image));
  *module = (void*)(uintptr_t)0x2000;
  return Result("cuModuleLoadData");
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  (void)module;
  *function = strdup(name);
  return Result("cuModuleGetFunction");
}

int cuFuncSetAttribute(void* function, int attribute, int value) {
  Log("attribute function=%s %d=%d\n", (const char*)function, attribute, value);
  return 0;
}

// For kernels that are not Triton's: they have a driver of their own in sm90/fake_driver.cc.
int cuTensorMapEncodeTiled(void) { return Result("cuTensorMapEncodeTiled"); }

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   void* stream, void** parameters, void** extra) {
  (void)extra;
  Log("launch function=%s grid=%u,%u,%u block=%u,%u,%u shared=%u stream=%p arguments=",
      (const char*)function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
      stream);
  char wanted[128];
  snprintf(wanted, sizeof(wanted), "%s=", (const char*)function);
  const char* types = strstr(getenv("FAKE_CUDA_PARAMETERS"), wanted) + strlen(wanted);
  for (int i = 0; types[i] != ';'; ++i) {
    if (types[i] == 'p') Log("%lu,", (unsigned long)*(uintptr_t*)parameters[i]);
    if (types[i] == 'i') Log("%d,", *(int32_t*)parameters[i]);
    if (types[i] == 'l') Log("%ld,", (long)*(int64_t*)parameters[i]);
    if (types[i] == 'f') Log("%.9g,", (double)*(float*)parameters[i]);
  }
  Log("\n");
  return Result("cuLaunchKernel");
}
