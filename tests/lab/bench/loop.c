/* Creates and destroys the queue pairs max_send_wr=1..N in one process, as fast as verbs allow, and prints how many a second. */
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 1000, granted = 0;
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct timespec from, to;

	while (list && *list && strcmp(ibv_get_device_name(*list), argv[1]))
		list++;
	if (!list || !*list)
		return fprintf(stderr, "no device %s\n", argv[1]), 1;
	struct ibv_context *context = ibv_open_device(*list);
	struct ibv_pd *pd = ibv_alloc_pd(context);
	struct ibv_cq *cq = ibv_create_cq(context, 64, NULL, NULL, 0);

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 1; i <= count; i++) {
		struct ibv_qp_init_attr init = {
			.send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC,
			.cap = { .max_send_wr = i, .max_recv_wr = 16, .max_send_sge = 1, .max_recv_sge = 1 },
		};
		struct ibv_qp *qp = ibv_create_qp(pd, &init);

		if (qp) {
			granted++;
			ibv_destroy_qp(qp);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	double seconds = to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9;
	printf("%d %.1f\n", granted, count / seconds);
	return 0;
}
