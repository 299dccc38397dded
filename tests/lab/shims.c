/* A library given by --libibverbs that is the real one (it is linked to it) but for ibv_create_qp, which crashes when
 * four receive entries are asked and hangs when five are. */
#include <infiniband/verbs.h>
#include <dlfcn.h>
#include <unistd.h>

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	struct ibv_qp *(*real)(struct ibv_pd *, struct ibv_qp_init_attr *) = dlsym(RTLD_NEXT, "ibv_create_qp");

	if (init->cap.max_recv_sge == 4)
		*(volatile int *)0 = 0;
	if (init->cap.max_recv_sge == 5)
		for (;;)
			pause();
	return real(pd, init);
}
