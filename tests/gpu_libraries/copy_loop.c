/* How fast a plain loop over the CUDA driver copies from and to locked memory, to compare `rdmadoctor gpu` with: copies of 64 MiB, four
 * between two events, the median of seven, and the median of 400 copies of 64 bytes. No header of CUDA is needed. `cc -O2 ... -ldl`. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LARGE (64ul << 20)
#define TIMES 4
#define SAMPLES 7
#define SMALL_SAMPLES 400

static void *library;

static int call(int code, const char *name)
{
	if (code) {
		fprintf(stderr, "%s: %d\n", name, code);
		exit(1);
	}
	return 0;
}

#define GET(name, ...) int (*name)(__VA_ARGS__) = (int (*)(__VA_ARGS__))dlsym(library, #name)
#define DO(name, ...) call(name(__VA_ARGS__), #name)

static int ascending(const void *left, const void *right)
{
	double difference = *(const double *)left - *(const double *)right;
	return difference < 0 ? -1 : difference > 0;
}

int main(void)
{
	void *context, *stream, *begin, *end, *page;
	unsigned long long memory;
	int device;
	library = dlopen("libcuda.so.1", RTLD_NOW);
	if (!library)
		return fprintf(stderr, "%s\n", dlerror()), 1;
	GET(cuInit, unsigned);
	GET(cuDeviceGet, int *, int);
	GET(cuDevicePrimaryCtxRetain, void **, int);
	GET(cuCtxSetCurrent, void *);
	GET(cuMemAlloc_v2, unsigned long long *, size_t);
	GET(cuMemHostAlloc, void **, size_t, unsigned);
	GET(cuStreamCreate, void **, unsigned);
	GET(cuStreamSynchronize, void *);
	GET(cuEventCreate, void **, unsigned);
	GET(cuEventRecord, void *, void *);
	GET(cuEventElapsedTime, float *, void *, void *);
	GET(cuMemcpyHtoDAsync_v2, unsigned long long, const void *, size_t, void *);
	GET(cuMemcpyDtoHAsync_v2, void *, unsigned long long, size_t, void *);
	DO(cuInit, 0);
	DO(cuDeviceGet, &device, 0);
	DO(cuDevicePrimaryCtxRetain, &context, device);
	DO(cuCtxSetCurrent, context);
	DO(cuMemAlloc_v2, &memory, LARGE);
	DO(cuMemHostAlloc, &page, LARGE, 1);
	DO(cuStreamCreate, &stream, 1);
	DO(cuEventCreate, &begin, 0);
	DO(cuEventCreate, &end, 0);
	for (int to_gpu = 1; to_gpu >= 0; to_gpu--) {
		double rates[SAMPLES], waits[SMALL_SAMPLES];
		for (int sample = -1; sample < SAMPLES; sample++) {
			float milliseconds;
			DO(cuEventRecord, begin, stream);
			for (int i = 0; i < TIMES; i++)
				to_gpu ? DO(cuMemcpyHtoDAsync_v2, memory, page, LARGE, stream) : DO(cuMemcpyDtoHAsync_v2, page, memory, LARGE, stream);
			DO(cuEventRecord, end, stream);
			DO(cuStreamSynchronize, stream);
			DO(cuEventElapsedTime, &milliseconds, begin, end);
			if (sample >= 0)
				rates[sample] = LARGE * TIMES / (milliseconds / 1e3);
		}
		for (int sample = 0; sample < SMALL_SAMPLES; sample++) {
			struct timespec from, to;
			clock_gettime(CLOCK_MONOTONIC, &from);
			to_gpu ? DO(cuMemcpyHtoDAsync_v2, memory, page, 64, stream) : DO(cuMemcpyDtoHAsync_v2, page, memory, 64, stream);
			DO(cuStreamSynchronize, stream);
			clock_gettime(CLOCK_MONOTONIC, &to);
			waits[sample] = (to.tv_sec - from.tv_sec) * 1e6 + (to.tv_nsec - from.tv_nsec) / 1e3;
		}
		qsort(rates, SAMPLES, sizeof *rates, ascending);
		qsort(waits, SMALL_SAMPLES, sizeof *waits, ascending);
		printf("plain loop, %s: %.2f GB/s (%.2f to %.2f), 64 bytes in %.2f us\n", to_gpu ? "to GPU" : "to host", rates[SAMPLES / 2] / 1e9,
		       rates[0] / 1e9, rates[SAMPLES - 1] / 1e9, waits[SMALL_SAMPLES / 2]);
	}
	return 0;
}
