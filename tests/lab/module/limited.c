// SPDX-License-Identifier: GPL-2.0
/*
 * rdmadoctor_limited: gives an RDMA device the queue-pair limits of another one.
 *
 * Stands between uverbs and the device's driver and refuses what the modelled device would refuse, so that user space
 * meets those limits on the real path: ioctl, errno, caps written back. The defaults are eRDMA's. Only requests from
 * user space are limited; the kernel's own queue pairs (the GSI one, for instance) are none of its business.
 *
 * All numbers can be changed while loaded, in /sys/module/rdmadoctor_limited/parameters/. Unloading restores the
 * device. Limits only narrow what the driver takes; they cannot widen it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>
#include <linux/xarray.h>
#include <rdma/ib_verbs.h>

static char *device = "rxe0";
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "name of the RDMA device to limit");

static int set_limit(const char *text, const struct kernel_param *parameter);
static const struct kernel_param_ops limit_ops = { .set = set_limit, .get = param_get_uint };

#define LIMIT(name, value, text)                           \
	static unsigned int name = value;                  \
	module_param_cb(name, &limit_ops, &name, 0644);    \
	MODULE_PARM_DESC(name, text)

LIMIT(max_send_sge, 6, "scatter-gather entries of a send");
LIMIT(max_recv_sge, 1, "scatter-gather entries of a receive");
LIMIT(max_inline_data, 96, "inline bytes of a send; never published, as on real devices");
LIMIT(max_send_wr, 8192, "depth of the send queue");
LIMIT(max_recv_wr, 8192, "depth of the receive queue");
LIMIT(max_cqe, 0, "depth of a completion queue; 0 leaves the driver's");
LIMIT(zero_wr_refused, 1, "1 refuses a send or receive queue of depth 0");
LIMIT(rc_only, 1, "1 refuses every queue-pair type but RC with EOPNOTSUPP");
LIMIT(srq_refused, 1, "1 refuses shared receive queues with EOPNOTSUPP");
LIMIT(errno_over_limit, EINVAL, "errno for a request over a limit");
LIMIT(joint_send_units, 0, "64-byte units in a send queue, packed as mlx5 does: EINVAL when depth x entry exceeds them; 0 is off");
LIMIT(joint_recv_units, 0, "the same of a receive queue");
LIMIT(budget, 0, "queue pairs of user space alive at once, ENOMEM beyond; 0 is off");
LIMIT(hang_on_recv_sge, 0, "a queue pair with exactly this max_recv_sge hangs until killed; 0 is off");
LIMIT(fail_errno, 0, "every queue pair is refused with this errno; 0 is off");

/* The limited device, and what its driver gave it. Written only while no operation of ours is reachable. */
static DEFINE_MUTEX(limited_lock);
static struct ib_device *limited;
static struct ib_device_ops driver;
static struct ib_device_attr driver_attrs;

static bool stopping;
static atomic_t inside = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(outside);

/* Queue pairs that count against the budget, by address: one made before we were loaded must not be subtracted. */
static DEFINE_XARRAY(alive);
static atomic_t alive_count = ATOMIC_INIT(0);

static void enter(void)
{
	atomic_inc(&inside);
}

static int leave(int result)
{
	if (atomic_dec_and_test(&inside))
		wake_up(&outside);
	return result;
}

static int hang(void)
{
	while (!fatal_signal_pending(current) && !READ_ONCE(stopping))
		schedule_timeout_killable(HZ / 10);
	return -EINTR;
}

/* The size of a send queue on devices that pack an entry's segments into 64-byte units. */
static u64 send_units(const struct ib_qp_cap *cap)
{
	u64 gathered = 192 + 16ULL * cap->max_send_sge;
	u64 inlined = 192 + ALIGN(4ULL + cap->max_inline_data, 16);
	u64 entry = DIV_ROUND_UP_ULL(max(gathered, inlined), 64);

	return cap->max_send_wr ? roundup_pow_of_two(cap->max_send_wr * entry) : 0;
}

static u64 recv_units(const struct ib_qp_cap *cap)
{
	if (!cap->max_recv_wr || !cap->max_recv_sge)
		return 0;
	return DIV_ROUND_UP_ULL(roundup_pow_of_two((u64)cap->max_recv_wr) *
				roundup_pow_of_two(16ULL * cap->max_recv_sge), 64);
}

/* In eRDMA's order: what is asked of the queues first, then the type and the shared receive queue. */
static int check(const struct ib_qp_init_attr *init)
{
	const struct ib_qp_cap *cap = &init->cap;

	if (hang_on_recv_sge && cap->max_recv_sge == hang_on_recv_sge)
		return hang();
	if (fail_errno)
		return -(int)fail_errno;

	if (cap->max_send_wr > max_send_wr || cap->max_recv_wr > max_recv_wr ||
	    cap->max_send_sge > max_send_sge || cap->max_recv_sge > max_recv_sge ||
	    cap->max_inline_data > max_inline_data)
		return -(int)errno_over_limit;
	if (zero_wr_refused && (!cap->max_send_wr || !cap->max_recv_wr))
		return -(int)errno_over_limit;
	if (joint_send_units && send_units(cap) > joint_send_units)
		return -EINVAL;
	if (joint_recv_units && recv_units(cap) > joint_recv_units)
		return -EINVAL;

	if (rc_only && init->qp_type != IB_QPT_RC)
		return -EOPNOTSUPP;
	if (srq_refused && init->srq)
		return -EOPNOTSUPP;
	return 0;
}

static int create_counted(struct ib_qp *qp, struct ib_qp_init_attr *init, struct ib_udata *udata)
{
	unsigned int most = budget;
	int result;

	if (atomic_inc_return(&alive_count) > most && most) {
		result = -ENOMEM;
		goto uncount;
	}
	result = xa_insert(&alive, (unsigned long)qp, qp, GFP_KERNEL);
	if (result)
		goto uncount;
	result = driver.create_qp(qp, init, udata);
	if (result)
		goto forget;

	/* A driver may write back more than was asked; the modelled device would not grant beyond its limits. */
	init->cap.max_send_sge = min(init->cap.max_send_sge, max_send_sge);
	init->cap.max_recv_sge = min(init->cap.max_recv_sge, max_recv_sge);
	init->cap.max_inline_data = min(init->cap.max_inline_data, max_inline_data);
	return 0;

forget:
	xa_erase(&alive, (unsigned long)qp);
uncount:
	atomic_dec(&alive_count);
	return result;
}

static int limited_create_qp(struct ib_qp *qp, struct ib_qp_init_attr *init, struct ib_udata *udata)
{
	int result;

	enter();
	if (!udata)
		return leave(driver.create_qp(qp, init, udata));
	result = check(init);
	return leave(result ? result : create_counted(qp, init, udata));
}

static int limited_destroy_qp(struct ib_qp *qp, struct ib_udata *udata)
{
	bool counted;
	int result;

	enter();
	/* Forgotten first: once destroyed, the same address may belong to a new queue pair. */
	counted = xa_erase(&alive, (unsigned long)qp);
	result = driver.destroy_qp(qp, udata);
	if (counted && !result)
		atomic_dec(&alive_count);
	else if (counted && xa_err(xa_store(&alive, (unsigned long)qp, qp, GFP_KERNEL)))
		atomic_dec(&alive_count);
	return leave(result);
}

static int limited_create_cq(struct ib_cq *cq, const struct ib_cq_init_attr *attr, struct ib_udata *udata)
{
	enter();
	if (udata && max_cqe && attr->cqe > max_cqe)
		return leave(-(int)errno_over_limit);
	return leave(driver.create_cq(cq, attr, udata));
}

static int limited_create_srq(struct ib_srq *srq, struct ib_srq_init_attr *init, struct ib_udata *udata)
{
	enter();
	if (udata && srq_refused)
		return leave(-EOPNOTSUPP);
	return leave(driver.create_srq(srq, init, udata));
}

/* The attributes are signed and a driver's are positive, so each minimum is too. */
static void narrow(struct ib_device_attr *attr)
{
	attr->max_send_sge = min_t(u32, attr->max_send_sge, max_send_sge);
	attr->max_recv_sge = min_t(u32, attr->max_recv_sge, max_recv_sge);
	attr->max_sge_rd = min_t(u32, attr->max_sge_rd, max_send_sge);
	attr->max_qp_wr = min3((u32)attr->max_qp_wr, max_send_wr, max_recv_wr);
	if (max_cqe)
		attr->max_cqe = min_t(u32, attr->max_cqe, max_cqe);
	if (budget)
		attr->max_qp = min_t(u32, attr->max_qp, budget);
	if (srq_refused) {
		attr->max_srq = 0;
		attr->max_srq_wr = 0;
		attr->max_srq_sge = 0;
	}
}

/* ibv_query_device_ex asks the driver ... */
static int limited_query_device(struct ib_device *ibdev, struct ib_device_attr *attr, struct ib_udata *udata)
{
	int result;

	enter();
	result = driver.query_device(ibdev, attr, udata);
	if (!result)
		narrow(attr);
	return leave(result);
}

/* ... and ibv_query_device reads what the core asked it once. */
static int set_limit(const char *text, const struct kernel_param *parameter)
{
	struct ib_device_attr attrs;
	int result = param_set_uint(text, parameter);

	if (result)
		return result;
	mutex_lock(&limited_lock);
	if (limited) {
		attrs = driver_attrs;
		narrow(&attrs);
		limited->attrs = attrs;
	}
	mutex_unlock(&limited_lock);
	return 0;
}

static int take(struct ib_device *ibdev)
{
	/* Any other device is no concern of ours; the core takes this answer as that. */
	if (limited || strcmp(dev_name(&ibdev->dev), device))
		return -EOPNOTSUPP;

	mutex_lock(&limited_lock);
	limited = ibdev;
	driver = ibdev->ops;
	driver_attrs = ibdev->attrs;
	narrow(&ibdev->attrs);
	WRITE_ONCE(ibdev->ops.query_device, limited_query_device);
	WRITE_ONCE(ibdev->ops.create_cq, limited_create_cq);
	if (driver.create_srq)
		WRITE_ONCE(ibdev->ops.create_srq, limited_create_srq);
	WRITE_ONCE(ibdev->ops.destroy_qp, limited_destroy_qp);
	WRITE_ONCE(ibdev->ops.create_qp, limited_create_qp);
	mutex_unlock(&limited_lock);
	pr_info("limiting %s\n", device);
	return 0;
}

/* Called when the device goes and when we are unloaded. */
static void give_back(struct ib_device *ibdev, void *unused)
{
	mutex_lock(&limited_lock);
	ibdev->attrs = driver_attrs;
	WRITE_ONCE(ibdev->ops.create_qp, driver.create_qp);
	WRITE_ONCE(ibdev->ops.destroy_qp, driver.destroy_qp);
	WRITE_ONCE(ibdev->ops.create_srq, driver.create_srq);
	WRITE_ONCE(ibdev->ops.create_cq, driver.create_cq);
	WRITE_ONCE(ibdev->ops.query_device, driver.query_device);

	/*
	 * A caller may have read our address and not have entered yet, or have left and not have returned. It does not
	 * sleep there, so once every task has slept or gone back to user space, nobody is there any more.
	 */
	WRITE_ONCE(stopping, true);
	synchronize_rcu_tasks();
	wait_event(outside, !atomic_read(&inside));
	synchronize_rcu_tasks();
	WRITE_ONCE(stopping, false);

	xa_destroy(&alive);
	atomic_set(&alive_count, 0);
	limited = NULL;
	mutex_unlock(&limited_lock);
}

/* As a client of the core we hold no reference, so that the device can be removed while we are loaded. */
static struct ib_client client = {
	.name = KBUILD_MODNAME,
	.add = take,
	.remove = give_back,
	.no_kverbs_req = true,
};

static int __init limited_init(void)
{
	struct ib_device *ibdev = ib_device_get_by_name(device, RDMA_DRIVER_UNKNOWN);

	if (!ibdev) {
		pr_err("there is no RDMA device %s\n", device);
		return -ENODEV;
	}
	ib_device_put(ibdev);
	return ib_register_client(&client);
}

static void __exit limited_exit(void)
{
	ib_unregister_client(&client);
}

module_init(limited_init);
module_exit(limited_exit);

MODULE_DESCRIPTION("Gives an RDMA device the queue-pair limits of another one, for tests");
MODULE_AUTHOR("The rdmadoctor authors");
MODULE_LICENSE("GPL");
