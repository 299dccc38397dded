/* Stands for libnvidia-ml.so.1 and libcuda.so.1: one GPU at 0000:01:00.0, and one at 0000:02:00.0 that is as FAKE_GPU says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetPCIBusId(char *text, int length, int device) { return snprintf(text, length, "0000:%02X:00.0", device + 1) < 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	(void)device;
	*value = attribute == 118 ? 200 : attribute == 117 ? 1 : attribute == 116;
	/* Before CUDA 11.7 nobody knew of dma-bufs. */
	return attribute == 124 ? 1 : 0;
}
