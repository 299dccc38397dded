/* Stands for libnvidia-ml.so.1 and libcuda.so.1: one GPU at 0000:01:00.0, and one at 0000:02:00.0 that is as FAKE_GPU says. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int is(const char *what)
{
	const char *fake = getenv("FAKE_GPU");
	return fake && !strcmp(fake, what);
}

/* What a sick GPU does to whoever asks for it. */
static int sick(void)
{
	if (is("hang"))
		for (;;)
			pause();
	if (is("crash"))
		*(volatile int *)0 = 0;
	return is("lost") ? 15 : 0;
}

int nvmlInit_v2(void) { return is("mismatch") ? 18 : is("no-driver") ? 9 : is("no-permission") ? 4 : 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { return snprintf(text, length, "580.159.04") < 0; }
int nvmlSystemGetNVMLVersion(char *text, unsigned length) { return snprintf(text, length, "13.580.159.04") < 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = 2, 0; }

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device)
{
	*device = !strcmp(address, "0000:02:00.0") ? (void *)2 : (void *)1;
	return *device == (void *)2 ? sick() : strcmp(address, "0000:01:00.0") ? 6 : 0;
}

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char address[32]; };

int nvmlDeviceGetPciInfo_v3(void *device, struct pci *pci)
{
	return snprintf(pci->address, sizeof pci->address, "00000000:%02X:00.0", (unsigned)(size_t)device) < 0;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, unsigned long long *memory)
{
	(void)device;
	/* version, total, reserved, free, used */
	memory[1] = 80ull << 30;
	memory[3] = 79ull << 30;
	return 0;
}

int cuInit(unsigned flags) { return flags || sick() ? 100 : is("mismatch") ? 803 : 0; }
int cuDriverGetVersion(int *version) { return *version = 12040, 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int ordinal) { return ordinal ? 101 : (*device = ordinal); }
int cuDeviceGetPCIBusId(char *text, int length, int device) { return snprintf(text, length, "0000:%02X:00.0", device + 1) < 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	(void)device;
	*value = attribute == 118 ? is("unordered") ? 0 : 200 : attribute == 117 ? 1 : attribute == 116;
	/* Before CUDA 11.7 nobody knew of dma-bufs. */
	return attribute == 124 ? 1 : 0;
}

/* Memory: the process's own, at addresses that are no pointers, so that whoever follows one is found out. */
#define AWAY (1ull << 62)
typedef unsigned long long address;

int cuDeviceGetByPCIBusId(int *device, const char *text) { return strcmp(text, "0000:01:00.0") ? 101 : (*device = 0); }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { return memset(uuid, 0x10 + device, 16), 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return is("slow") ? usleep(900000) : 0, *context = (void *)(size_t)(device + 1), 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, 0; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }
int cuMemGetInfo_v2(size_t *available, size_t *total) { return *available = 1ull << 30, *total = 2ull << 30, 0; }

static int allocate(address *at, size_t bytes)
{
	void *found = NULL;
	if (is("full") || posix_memalign(&found, 2 << 20, bytes))
		return 2;
	*at = (address)(size_t)found + AWAY;
	return 0;
}

int cuMemAlloc_v2(address *at, size_t bytes) { return allocate(at, bytes); }
int cuMemAllocAsync(address *at, size_t bytes, void *stream) { return (void)stream, allocate(at, bytes); }
int cuMemAllocManaged(address *at, size_t bytes, unsigned flags) { return (void)flags, allocate(at, bytes); }
int cuMemFree_v2(address at) { return free((void *)(size_t)(at - AWAY)), 0; }
int cuMemGetAllocationGranularity(size_t *bytes, const void *wanted, int option) { return (void)wanted, (void)option, *bytes = 2 << 20, 0; }
int cuMemCreate(address *handle, size_t bytes, const void *wanted, address flags) { return (void)bytes, (void)wanted, (void)flags, *handle = 7, 0; }
int cuMemRelease(address handle) { return handle == 7 ? 0 : 1; }
int cuMemAddressReserve(address *at, size_t bytes, size_t alignment, address where, address flags) { return (void)alignment, (void)where, (void)flags, allocate(at, bytes); }
int cuMemAddressFree(address at, size_t bytes) { return (void)bytes, cuMemFree_v2(at); }
int cuMemMap(address at, size_t bytes, size_t offset, address handle, address flags) { return (void)at, (void)bytes, (void)offset, (void)handle, (void)flags, 0; }
int cuMemUnmap(address at, size_t bytes) { return (void)at, (void)bytes, 0; }
int cuMemSetAccess(address at, size_t bytes, const void *access, size_t count) { return (void)at, (void)bytes, (void)access, (void)count, 0; }
int cuMemHostAlloc(void **at, size_t bytes, unsigned flags) { return (void)flags, posix_memalign(at, 4096, bytes) ? 2 : 0; }
int cuMemFreeHost(void *at) { return free(at), 0; }

int cuMemsetD8_v2(address at, unsigned char value, size_t bytes) { return memset((void *)(size_t)(at - AWAY), value, bytes), 0; }
int cuMemcpyHtoD_v2(address to, const void *from, size_t bytes) { return memcpy((void *)(size_t)(to - AWAY), from, bytes), 0; }
int cuMemcpyDtoH_v2(void *to, address from, size_t bytes)
{
	memcpy(to, (void *)(size_t)(from - AWAY), bytes);
	/* A GPU that gives back what nobody wrote. */
	if (is("wrong") && bytes)
		*(unsigned char *)to ^= 1;
	return 0;
}
int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t bytes, void *stream) { return (void)stream, cuMemcpyHtoD_v2(to, from, bytes); }
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t bytes, void *stream) { return (void)stream, cuMemcpyDtoH_v2(to, from, bytes); }
int cuStreamCreate(void **stream, unsigned flags) { return (void)flags, *stream = (void *)1, 0; }
int cuStreamDestroy_v2(void *stream) { return (void)stream, 0; }
/* A kernel that runs beside the processor, one at a time. */
static pthread_t watcher;
static int watching;

int cuStreamSynchronize(void *stream)
{
	if (stream && watching)
		watching = 0, pthread_join(watcher, NULL);
	return 0;
}
int cuEventCreate(void **event, unsigned flags) { return (void)flags, *event = calloc(1, 8), 0; }
int cuEventDestroy_v2(void *event) { return free(event), 0; }
int cuEventRecord(void *event, void *stream) { return (void)event, (void)stream, 0; }
/* Not past at the first look, so that waiting is done too. */
int cuEventQuery(void *event) { return ++*(int *)event % 3 ? 600 : 0; }
int cuEventElapsedTime(float *milliseconds, void *from, void *to) { return (void)from, (void)to, *milliseconds = 1, 0; }

/* Kernels: the text is not read. What its functions do is done here, from the same arguments. */
int cuModuleLoadData(void **module, const void *image)
{
	const char *text = image;
	/* As a driver without its assembler answers. */
	if (is("no-jit"))
		return 221;
	return strstr(text, ".entry fill(") && strstr(text, ".entry compare(") && strstr(text, ".entry watch(") ? (*module = (void *)1, 0) : 218;
}
int cuModuleUnload(void *module) { return module == (void *)1 ? 0 : 1; }
int cuModuleGetFunction(void **function, void *module, const char *name)
{
	(void)module;
	*function = (void *)(size_t)(unsigned char)*name;
	return strchr("fcw", *name) ? 0 : 500;
}

static unsigned char pattern(address offset, address salt)
{
	address mixed = offset + salt;
	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
	return mixed >> 56;
}

static void *watch(void *given)
{
	address *at = given, flag = at[0] - AWAY, data = at[1] - AWAY, last = at[3] + at[4], stale;
	volatile address *told = (void *)(size_t)at[6];
	unsigned waited;
	/* A flag may be in memory of the host. */
	if (at[0] < AWAY)
		flag = at[0];
	for (address i = at[3]; i < last; i++) {
		for (waited = 0; *(volatile address *)(size_t)flag != i; waited++) {
			if (waited > at[5] / 100000)
				return told[4] = 1, free(given), NULL;
			usleep(100);
		}
		stale = 0;
		for (address word = 0; word < at[2]; word++)
			stale += ((volatile address *)(size_t)data)[word] != i;
		if (stale) {
			if (!told[1])
				told[3] = i;
			told[1]++;
			told[2] += stale;
		}
		told[0] = i;
	}
	free(given);
	return NULL;
}

int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared, void *stream, void **arguments, void **extra)
{
	(void)x, (void)y, (void)z, (void)tx, (void)ty, (void)tz, (void)shared, (void)stream, (void)extra;
	address at = *(address *)arguments[0], length = *(address *)arguments[1], salt = *(address *)arguments[2], *result, *copy;
	unsigned char *bytes = (void *)(size_t)(at - AWAY);
	if (function == (void *)'w') {
		copy = calloc(7, sizeof *copy);
		for (int i = 0; i < 7; i++)
			copy[i] = *(address *)arguments[i];
		if (watching)
			pthread_join(watcher, NULL);
		watching = !pthread_create(&watcher, NULL, watch, copy);
		return watching ? 0 : 1;
	}
	if (function == (void *)'f') {
		for (address i = 0; i < length; i++)
			bytes[i] = pattern(i, salt) ^ *(unsigned *)arguments[3];
		return 0;
	}
	result = (void *)(size_t)(*(address *)arguments[3] - AWAY);
	for (address i = length; i-- > 0;)
		if (bytes[i] != pattern(i, salt) || (is("wrong") && !i))
			result[0]++, result[1] = i;
	return 0;
}

int cuFlushGPUDirectRDMAWrites(int target, int scope) { return target ? 1 : scope != 100 && scope != 200; }

int cuMemGetHandleForAddressRange(int *file, address at, size_t bytes, int kind, address flags)
{
	(void)at;
	if (is("no-export") || (flags && !is("direct")))
		return 801;
	*file = memfd_create("dmabuf", 0);
	return kind == 1 && *file >= 0 && !ftruncate(*file, (off_t)bytes) ? 0 : 1;
}
