//! Small wrappers over the simulated provider's raw entry points, for tests. What is made here is not freed unless a test does it.
#![allow(dead_code, unsafe_code, clippy::undocumented_unsafe_blocks, reason = "each test file uses a part; tests call a C interface")]

use std::ffi::CStr;
use std::mem;
use std::ptr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rdma_sys::*;
use rdmadoctor::sim::{SimConfig, Simulation};
use rdmadoctor::verbs::Verbs;

pub const ALL_ACCESS: i32 = 0xf;

/// An installed simulation with one device open.
pub struct Host {
    pub sim: Simulation,
    pub verbs: Verbs,
    pub context: *mut ibv_context,
    pub pd: *mut ibv_pd,
}

/// Registered memory.
pub struct Region {
    memory: *mut u8,
    length: usize,
    pub mr: *mut ibv_mr,
}

/// How queue pairs are made and connected.
#[derive(Clone, Copy)]
pub struct Options {
    pub qp_type: u32,
    pub send_wr: u32,
    pub recv_wr: u32,
    pub sge: u32,
    pub inline: u32,
    pub signals_all: bool,
    pub srq: *mut ibv_srq,
    pub rnr_retry: u8,
    pub rnr_timer: u8,
    pub retry_cnt: u8,
    pub timeout: u8,
    pub rd_atomic: u8,
    pub dest_rd_atomic: u8,
    pub access: u32,
    pub gid_index: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            qp_type: ibv_qp_type::IBV_QPT_RC,
            send_wr: 16,
            recv_wr: 16,
            sge: 4,
            inline: 64,
            signals_all: false,
            srq: ptr::null_mut(),
            rnr_retry: 7,
            rnr_timer: 1,
            retry_cnt: 1,
            timeout: 8,
            rd_atomic: 4,
            dest_rd_atomic: 4,
            access: 0xf,
            gid_index: 1,
        }
    }
}

/// A queue pair with a completion queue of its own.
#[derive(Clone, Copy)]
pub struct End {
    pub qp: *mut ibv_qp,
    pub cq: *mut ibv_cq,
}

/// A send request.
#[derive(Clone)]
pub struct Wr {
    pub id: u64,
    pub opcode: u32,
    pub sges: Vec<ibv_sge>,
    pub flags: u32,
    pub imm: u32,
    pub addr: u64,
    pub rkey: u32,
    pub compare_add: u64,
    pub swap: u64,
    pub ah: *mut ibv_ah,
    pub remote_qpn: u32,
    pub qkey: u32,
}

pub const SIGNALED: u32 = 2;
pub const SOLICITED: u32 = 4;
pub const INLINE: u32 = 8;

impl Wr {
    pub fn new(id: u64, opcode: u32, sges: Vec<ibv_sge>) -> Self {
        let (imm, addr, rkey, compare_add, swap, remote_qpn, qkey) = (0, 0, 0, 0, 0, 0, 0);
        Self { id, opcode, sges, flags: SIGNALED, imm, addr, rkey, compare_add, swap, ah: ptr::null_mut(), remote_qpn, qkey }
    }

    pub fn send(id: u64, sges: Vec<ibv_sge>) -> Self {
        Self::new(id, ibv_wr_opcode::IBV_WR_SEND, sges)
    }

    pub fn to(mut self, region: &Region, offset: usize) -> Self {
        self.addr = region.addr() + offset as u64;
        self.rkey = region.rkey();
        self
    }

    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    pub fn imm(mut self, imm: u32) -> Self {
        self.imm = imm;
        self
    }

    fn raw(&mut self) -> ibv_send_wr {
        let mut raw: ibv_send_wr = unsafe { mem::zeroed() };
        raw.wr_id = self.id;
        raw.sg_list = self.sges.as_mut_ptr();
        raw.num_sge = self.sges.len() as i32;
        raw.opcode = self.opcode;
        raw.send_flags = self.flags;
        raw.imm_data_invalidated_rkey_union.imm_data = self.imm;
        if !self.ah.is_null() {
            raw.wr.ud = ud_t { ah: self.ah, remote_qpn: self.remote_qpn, remote_qkey: self.qkey };
        } else if matches!(self.opcode, ibv_wr_opcode::IBV_WR_ATOMIC_CMP_AND_SWP | ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD) {
            raw.wr.atomic = atomic_t { remote_addr: self.addr, compare_add: self.compare_add, swap: self.swap, rkey: self.rkey };
        } else {
            raw.wr.rdma = rdma_t { remote_addr: self.addr, rkey: self.rkey };
        }
        raw
    }
}

/// A completion in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wc {
    pub id: u64,
    pub status: u32,
    pub opcode: u32,
    pub byte_len: u32,
    pub imm: u32,
    pub flags: u32,
    pub qp_num: u32,
    pub src_qp: u32,
}

impl Region {
    pub fn addr(&self) -> u64 {
        self.memory as u64
    }

    pub fn lkey(&self) -> u32 {
        unsafe { (*self.mr).lkey }
    }

    pub fn rkey(&self) -> u32 {
        unsafe { (*self.mr).rkey }
    }

    pub fn sge(&self, offset: usize, length: usize) -> ibv_sge {
        ibv_sge { addr: self.addr() + offset as u64, length: length as u32, lkey: self.lkey() }
    }

    pub fn fill(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length);
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.add(offset), bytes.len()) }
    }

    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.length);
        (offset..offset + length).map(|at| unsafe { self.memory.add(at).read_volatile() }).collect()
    }
}

impl Host {
    pub fn new(config: SimConfig) -> Self {
        let sim = Simulation::install(config).unwrap();
        Self::open(sim, 0)
    }

    pub fn of_model(name: &str) -> Self {
        Self::new(SimConfig::of_models([name]))
    }

    pub fn open(sim: Simulation, index: usize) -> Self {
        let verbs = sim.verbs();
        unsafe {
            let list = (verbs.ibv_get_device_list)(ptr::null_mut());
            let device = *list.add(index);
            assert!(!device.is_null() && !CStr::from_ptr((verbs.ibv_get_device_name)(device)).is_empty());
            let context = (verbs.ibv_open_device)(device);
            assert!(!context.is_null(), "{}", Errno::last());
            (verbs.ibv_free_device_list)(list);
            let pd = (verbs.ibv_alloc_pd)(context);
            assert!(!pd.is_null());
            Self { sim, verbs, context, pd }
        }
    }

    pub fn gid(&self, index: i32) -> [u8; 16] {
        let mut gid = ibv_gid { raw: [0; 16] };
        unsafe {
            assert_eq!((self.verbs.ibv_query_gid)(self.context, 1, index, &raw mut gid), 0);
            gid.raw
        }
    }

    pub fn region(&self, length: usize, access: i32) -> Region {
        // Words, so that atomic operations find them aligned.
        let memory = Box::leak(vec![0_u64; length.div_ceil(8)].into_boxed_slice()).as_mut_ptr().cast::<u8>();
        let mr = unsafe { (self.verbs.ibv_reg_mr)(self.pd, memory.cast(), length, access) };
        assert!(!mr.is_null(), "{}", Errno::last());
        Region { memory, length, mr }
    }

    pub fn cq(&self, entries: i32) -> *mut ibv_cq {
        let cq = unsafe { (self.verbs.ibv_create_cq)(self.context, entries, ptr::null_mut(), ptr::null_mut(), 0) };
        assert!(!cq.is_null(), "{}", Errno::last());
        cq
    }

    pub fn qp_on(&self, cq: *mut ibv_cq, options: Options) -> End {
        let mut init: ibv_qp_init_attr = unsafe { mem::zeroed() };
        (init.send_cq, init.recv_cq, init.srq) = (cq, cq, options.srq);
        init.cap = ibv_qp_cap {
            max_send_wr: options.send_wr,
            max_recv_wr: options.recv_wr,
            max_send_sge: options.sge,
            max_recv_sge: options.sge,
            max_inline_data: options.inline,
        };
        init.qp_type = options.qp_type;
        init.sq_sig_all = i32::from(options.signals_all);
        let qp = unsafe { (self.verbs.ibv_create_qp)(self.pd, &raw mut init) };
        assert!(!qp.is_null(), "{}", Errno::last());
        End { qp, cq }
    }

    pub fn qp(&self, options: Options) -> End {
        self.qp_on(self.cq(64), options)
    }

    pub fn modify(&self, end: End, attr: &mut ibv_qp_attr, mask: u32) -> i32 {
        unsafe { (self.verbs.ibv_modify_qp)(end.qp, &raw mut *attr, mask as i32) }
    }

    pub fn to_state(&self, end: End, state: u32) -> i32 {
        let mut attr: ibv_qp_attr = unsafe { mem::zeroed() };
        attr.qp_state = state;
        self.modify(end, &mut attr, 1)
    }

    pub fn state(&self, end: End) -> u32 {
        unsafe {
            let (mut attr, mut init): (ibv_qp_attr, ibv_qp_init_attr) = (mem::zeroed(), mem::zeroed());
            assert_eq!((self.verbs.ibv_query_qp)(end.qp, &raw mut attr, 0, &raw mut init), 0);
            attr.qp_state
        }
    }

    pub fn init(&self, end: End, options: Options) -> i32 {
        let mut attr: ibv_qp_attr = unsafe { mem::zeroed() };
        attr.qp_state = ibv_qp_state::IBV_QPS_INIT;
        attr.port_num = 1;
        attr.qp_access_flags = options.access;
        attr.qkey = 0x1111;
        let is_ud = options.qp_type == ibv_qp_type::IBV_QPT_UD;
        self.modify(end, &mut attr, 1 | 1 << 4 | 1 << 5 | if is_ud { 1 << 6 } else { 1 << 3 })
    }

    pub fn rtr(&self, end: End, options: Options, remote_qpn: u32, remote_gid: [u8; 16]) -> i32 {
        let mut attr: ibv_qp_attr = unsafe { mem::zeroed() };
        attr.qp_state = ibv_qp_state::IBV_QPS_RTR;
        attr.path_mtu = 3;
        attr.dest_qp_num = remote_qpn;
        attr.max_dest_rd_atomic = options.dest_rd_atomic;
        attr.min_rnr_timer = options.rnr_timer;
        attr.ah_attr.port_num = 1;
        attr.ah_attr.is_global = 1;
        attr.ah_attr.grh.dgid = ibv_gid { raw: remote_gid };
        attr.ah_attr.grh.sgid_index = options.gid_index;
        let mask = match options.qp_type {
            ibv_qp_type::IBV_QPT_UD => 1,
            ibv_qp_type::IBV_QPT_UC => 1 | 1 << 7 | 1 << 8 | 1 << 20 | 1 << 12,
            _ => 1 | 1 << 7 | 1 << 8 | 1 << 20 | 1 << 12 | 1 << 17 | 1 << 15,
        };
        self.modify(end, &mut attr, mask)
    }

    pub fn rts(&self, end: End, options: Options) -> i32 {
        let mut attr: ibv_qp_attr = unsafe { mem::zeroed() };
        attr.qp_state = ibv_qp_state::IBV_QPS_RTS;
        attr.timeout = options.timeout;
        attr.retry_cnt = options.retry_cnt;
        attr.rnr_retry = options.rnr_retry;
        attr.max_rd_atomic = options.rd_atomic;
        let is_rc = options.qp_type == ibv_qp_type::IBV_QPT_RC;
        self.modify(end, &mut attr, 1 | 1 << 16 | if is_rc { 1 << 9 | 1 << 10 | 1 << 11 | 1 << 13 } else { 0 })
    }

    /// Brings a queue pair up to send.
    pub fn connect(&self, end: End, options: Options, remote_qpn: u32, remote_gid: [u8; 16]) {
        assert_eq!(self.init(end, options), 0);
        assert_eq!(self.rtr(end, options, remote_qpn, remote_gid), 0);
        assert_eq!(self.rts(end, options), 0);
    }

    /// Two connected queue pairs.
    pub fn pair(&self, options: Options) -> (End, End) {
        self.pair_of(options, options)
    }

    pub fn pair_of(&self, one: Options, other: Options) -> (End, End) {
        let (a, b) = (self.qp(one), self.qp(other));
        self.connect(a, one, b.number(), self.gid(i32::from(other.gid_index)));
        self.connect(b, other, a.number(), self.gid(i32::from(one.gid_index)));
        (a, b)
    }
}

impl End {
    pub fn number(self) -> u32 {
        unsafe { (*self.qp).qp_num }
    }

    pub fn send(self, mut wr: Wr) -> Result<(), i32> {
        let mut raw = wr.raw();
        let mut bad = ptr::null_mut();
        match unsafe { ibv_post_send(self.qp, &raw mut raw, &raw mut bad) } {
            0 => Ok(()),
            error => {
                assert_eq!(bad, &raw mut raw);
                Err(error)
            }
        }
    }

    /// Posts a chain; on failure gives the errno and the number of the request that failed.
    pub fn send_all(self, wrs: &mut [Wr]) -> Result<(), (i32, usize)> {
        let mut raws: Vec<_> = wrs.iter_mut().map(Wr::raw).collect();
        for index in 1..raws.len() {
            let next = &raw mut raws[index];
            raws[index - 1].next = next;
        }
        let first = raws.as_mut_ptr();
        let mut bad = ptr::null_mut();
        match unsafe { ibv_post_send(self.qp, first, &raw mut bad) } {
            0 => Ok(()),
            error => Err((error, unsafe { bad.offset_from(first) } as usize)),
        }
    }

    pub fn recv(self, id: u64, mut sges: Vec<ibv_sge>) -> Result<(), i32> {
        let mut raw = ibv_recv_wr { wr_id: id, next: ptr::null_mut(), sg_list: sges.as_mut_ptr(), num_sge: sges.len() as i32 };
        let mut bad = ptr::null_mut();
        match unsafe { ibv_post_recv(self.qp, &raw mut raw, &raw mut bad) } {
            0 => Ok(()),
            error => Err(error),
        }
    }

    pub fn poll(self) -> Vec<Wc> {
        poll(self.cq, 16)
    }

    /// Waits for so many completions, and no more.
    pub fn wait(self, count: usize) -> Vec<Wc> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.poll());
            assert!(Instant::now() < deadline, "{all:?}");
            std::thread::yield_now();
        }
        assert_eq!(all.len(), count, "{all:?}");
        all
    }

    /// Waits for one completion and gives its status.
    pub fn status(self) -> u32 {
        self.wait(1)[0].status
    }
}

pub fn poll(cq: *mut ibv_cq, most: usize) -> Vec<Wc> {
    let mut raw: Vec<ibv_wc> = (0..most).map(|_| unsafe { mem::zeroed() }).collect();
    let count = unsafe { ibv_poll_cq(cq, most as i32, raw.as_mut_ptr()) };
    assert!(count >= 0);
    let as_wc = |wc: &ibv_wc| Wc {
        id: wc.wr_id,
        status: wc.status,
        opcode: wc.opcode,
        byte_len: wc.byte_len,
        imm: unsafe { wc.imm_data_invalidated_rkey_union.imm_data },
        flags: wc.wc_flags,
        qp_num: wc.qp_num,
        src_qp: wc.src_qp,
    };
    raw[..count as usize].iter().map(as_wc).collect()
}
