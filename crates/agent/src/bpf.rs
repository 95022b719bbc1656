//! BPF programs on an instance's cgroup that give it a loopback address of its own.
//!
//! Four programs, hand-assembled since each is a dozen instructions, look at TCP sockets alone:
//! - a bind to any address or to localhost becomes a bind to the instance's own address, so that
//!   all replicas may listen on one port. Any address with port 0 is left alone: that is how
//!   clients bind;
//! - a connection to localhost goes to the own address: localhost is the instance, so what listens
//!   on the host's loopback alone is out of reach. Localhost is all of 127.0.0.0/8 outside the
//!   pool, and the address zero, by which the kernel means localhost. Only the machine's resolver
//!   is the host's, as it is over UDP;
//! - a connection to the pool of service addresses comes from the own address, so that the edge
//!   knows who calls. Where it goes is not changed.
//!
//! An IPv6 socket that refuses IPv4 (`IPV6_V6ONLY`) cannot have such an address. It is the twin of
//! an IPv4 socket as a rule (nginx and redis open both), so it gets any free port instead: it
//! clashes with nobody, and its twin is found. A bind cannot ask for that option, so a fifth
//! program marks sockets that set it, in their priority, which means nothing on loopback. Not
//! covered: UDP, and listeners of the host on any address, which are found at every address.
//!
//! The programs stay attached until the cgroup is removed; nobody needs to stay alive.

mod assembler;

use std::ffi::CStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use self::assembler::{Assembler, Label, R0, R1, R2, R3, R4, R5, R6, STACK};
use base::Ipv4Cidr;

// Offsets in `struct bpf_sock_addr`.
const IP4: i16 = 4;
const IP6: i16 = 8;
const PORT: i16 = 24;
const TYPE: i16 = 32;
const SOCKET: i16 = 64;

/// Offset in `struct bpf_sock`.
const PRIORITY: i16 = 20;

// Offsets in `struct bpf_sockopt`.
const OPTION_SOCKET: i16 = 0;
const OPTION_VALUE: i16 = 8;
const OPTION_END: i16 = 16;
const OPTION_LEVEL: i16 = 24;
const OPTION_NAME: i16 = 28;

/// The priority of a socket that refuses IPv4.
const ONLY6: i32 = 0x6d73_0006;

/// `BPF_FUNC_setsockopt`.
const SET_OPTION: i32 = 49;

/// `BPF_FUNC_bind`.
const BIND: i32 = 64;

/// `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Bind4 = 8,
    Bind6 = 9,
    Connect4 = 10,
    Connect6 = 11,
    SetOption = 22,
}

const HOOKS: [Hook; 4] = [Hook::Bind4, Hook::Bind6, Hook::Connect4, Hook::Connect6];

/// Attaches the programs to a cgroup2 directory, beside those of others.
pub(crate) fn attach(cgroup: &Path, own: Ipv4Addr, pool: Ipv4Cidr) -> io::Result<()> {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(cgroup, flags, rustix::fs::Mode::empty())?;
    for hook in HOOKS {
        let program = load(hook, &program(hook, own, pool))?;
        attach_one(cgroup.as_fd(), program.as_fd(), hook)?;
    }
    // Kernels before 5.18 cannot mark sockets; all but IPv6 twins work without.
    let _unmarked = load(Hook::SetOption, &program(Hook::SetOption, own, pool))
        .and_then(|program| attach_one(cgroup.as_fd(), program.as_fd(), Hook::SetOption));
    Ok(())
}

/// An address as the kernel keeps it: network order in memory.
fn word(address: Ipv4Addr) -> i32 {
    i32::from_ne_bytes(address.octets())
}

/// The third word of every IPv4 address inside IPv6.
const MAPPED: i32 = i32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// Where systemd-resolved answers.
const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 53), 53);

/// The last word of `::1`.
const ONE: i32 = i32::from_ne_bytes([0, 0, 0, 1]);

fn program(hook: Hook, own: Ipv4Addr, pool: Ipv4Cidr) -> Vec<u8> {
    let mut a = Assembler::default();
    let out = a.label();
    a.copy(R6, R1);
    if hook != Hook::SetOption {
        a.load(R2, R6, TYPE);
        a.jump_unless(R2, libc::SOCK_STREAM, out);
    }
    match hook {
        Hook::SetOption => set_option(&mut a, out),
        Hook::Bind4 => bind4(&mut a, own, pool, out),
        Hook::Bind6 => bind6(&mut a, own, pool, out),
        Hook::Connect4 => connect4(&mut a, own, pool, out),
        Hook::Connect6 => connect6(&mut a, own, pool, out),
    }
    a.place(out);
    // 1 is to go on.
    a.set(R0, 1);
    a.exit();
    a.finish()
}

fn bind4(a: &mut Assembler, own: Ipv4Addr, pool: Ipv4Cidr, out: Label) {
    let replace = a.label();
    a.load(R2, R6, IP4);
    sort(a, pool, replace, out);
    a.jump_unless(R2, 0, out);
    a.load(R3, R6, PORT);
    a.jump_if(R3, 0, out);
    a.place(replace);
    a.set(R2, word(own));
    a.store(R6, IP4, R2);
}

fn bind6(a: &mut Assembler, own: Ipv4Addr, pool: Ipv4Cidr, out: Label) {
    let (replace, mapped, any) = (a.label(), a.label(), a.label());
    zero_half(a, out);
    a.load(R2, R6, IP6 + 12);
    a.load(R3, R6, IP6 + 8);
    a.jump_if(R3, MAPPED, mapped);
    a.jump_unless(R3, 0, out);
    a.jump_if(R2, ONE, replace);
    a.jump(any);
    a.place(mapped);
    sort(a, pool, replace, out);
    a.place(any);
    a.jump_unless(R2, 0, out);
    a.load(R3, R6, PORT);
    a.jump_if(R3, 0, out);
    a.place(replace);
    let both = a.label();
    a.load_pointer(R2, R6, SOCKET);
    a.load(R2, R2, PRIORITY);
    a.jump_unless(R2, ONLY6, both);
    a.set(R2, 0);
    a.store(R6, PORT, R2);
    a.jump(out);
    a.place(both);
    store_mapped(a, own);
}

fn connect4(a: &mut Assembler, own: Ipv4Addr, pool: Ipv4Cidr, out: Label) {
    let (replace, in_pool) = (a.label(), a.label());
    a.load(R2, R6, IP4);
    leave_resolver(a, out);
    sort(a, pool, replace, in_pool);
    a.jump_unless(R2, 0, out);
    a.place(replace);
    a.set(R2, word(own));
    a.store(R6, IP4, R2);
    a.jump(out);
    a.place(in_pool);
    // struct sockaddr_in
    a.store_number(STACK, -16, family(libc::AF_INET));
    a.store_number(STACK, -12, word(own));
    a.store_number(STACK, -8, 0);
    a.store_number(STACK, -4, 0);
    call_bind(a, 16);
}

fn connect6(a: &mut Assembler, own: Ipv4Addr, pool: Ipv4Cidr, out: Label) {
    let (replace, mapped, in_pool) = (a.label(), a.label(), a.label());
    zero_half(a, out);
    a.load(R2, R6, IP6 + 12);
    a.load(R3, R6, IP6 + 8);
    a.jump_if(R3, MAPPED, mapped);
    a.jump_unless(R3, 0, out);
    a.jump_if(R2, ONE, replace);
    a.jump_unless(R2, 0, out);
    a.place(replace);
    store_mapped(a, own);
    a.jump(out);
    a.place(mapped);
    leave_resolver(a, out);
    sort(a, pool, replace, in_pool);
    a.jump_if(R2, 0, replace);
    a.jump(out);
    a.place(in_pool);
    // struct sockaddr_in6
    a.store_number(STACK, -28, family(libc::AF_INET6));
    a.store_number(STACK, -24, 0);
    a.store_number(STACK, -20, 0);
    a.store_number(STACK, -16, 0);
    a.store_number(STACK, -12, MAPPED);
    a.store_number(STACK, -8, word(own));
    a.store_number(STACK, -4, 0);
    call_bind(a, 28);
}

/// Marks a socket that is told to refuse IPv4.
fn set_option(a: &mut Assembler, out: Label) {
    a.load(R2, R6, OPTION_LEVEL);
    a.jump_unless(R2, libc::IPPROTO_IPV6, out);
    a.load(R2, R6, OPTION_NAME);
    a.jump_unless(R2, libc::IPV6_V6ONLY, out);
    // The value must be shown to be there before it is read.
    a.load_pointer(R2, R6, OPTION_VALUE);
    a.load_pointer(R3, R6, OPTION_END);
    a.copy(R1, R2);
    a.add(R1, 4);
    a.jump_if_greater(R1, R3, out);
    a.load(R2, R2, 0);
    a.jump_if(R2, 0, out);
    a.store_number(STACK, -4, ONLY6);
    a.load_pointer(R1, R6, OPTION_SOCKET);
    a.set(R2, libc::SOL_SOCKET);
    a.set(R3, libc::SO_PRIORITY);
    a.copy(R4, STACK);
    a.add(R4, -4);
    a.set(R5, 4);
    a.call(SET_OPTION);
}

/// Goes out unless the first half of the IPv6 address is zero.
fn zero_half(a: &mut Assembler, out: Label) {
    for at in [0, 4] {
        a.load(R2, R6, IP6 + at);
        a.jump_unless(R2, 0, out);
    }
}

fn store_mapped(a: &mut Assembler, own: Ipv4Addr) {
    a.set(R2, MAPPED);
    a.store(R6, IP6 + 8, R2);
    a.set(R2, word(own));
    a.store(R6, IP6 + 12, R2);
}

/// Goes to one of these when R2 is localhost or in the pool. Changes R3.
fn sort(a: &mut Assembler, pool: Ipv4Cidr, local: Label, in_pool: Label) {
    a.jump_if(R2, word(Ipv4Addr::LOCALHOST), local);
    a.copy(R3, R2);
    a.and(R3, word(Ipv4Addr::from_bits(pool.mask())));
    a.jump_if(R3, word(pool.base()), in_pool);
    a.copy(R3, R2);
    a.and(R3, word(Ipv4Addr::new(255, 0, 0, 0)));
    a.jump_if(R3, word(Ipv4Addr::new(127, 0, 0, 0)), local);
}

/// Goes out when a connection to R2 is one to the machine's resolver. Changes R3.
fn leave_resolver(a: &mut Assembler, out: Label) {
    let other = a.label();
    a.jump_unless(R2, word(RESOLVER.0), other);
    a.load(R3, R6, PORT);
    a.jump_if(R3, i32::from(RESOLVER.1.to_be()), out);
    a.place(other);
}

/// The first word of a socket address with port 0.
fn family(family: i32) -> i32 {
    let [a, b] = u16::try_from(family).unwrap_or_default().to_ne_bytes();
    i32::from_ne_bytes([a, b, 0, 0])
}

/// Binds the socket to the address of `length` bytes at the end of the stack. A socket that is
/// bound already refuses, and keeps what it has.
fn call_bind(a: &mut Assembler, length: i32) {
    a.copy(R1, R6);
    a.copy(R2, STACK);
    a.add(R2, -length);
    a.set(R3, length);
    a.call(BIND);
}

/// The part of `union bpf_attr` that loading takes.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` that attaching takes.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[expect(unsafe_code, reason = "bpf(2) has no wrapper")]
fn load(hook: Hook, code: &[u8]) -> io::Result<OwnedFd> {
    let license: &CStr = c"Apache-2.0";
    let attributes = Load {
        kind: match hook {
            Hook::SetOption => 25, // BPF_PROG_TYPE_CGROUP_SOCKOPT
            _ => 18,               // BPF_PROG_TYPE_CGROUP_SOCK_ADDR
        },
        instructions: u32::try_from(code.len() / 8).unwrap_or(u32::MAX),
        code: code.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        name: *b"ms_address\0\0\0\0\0\0",
        attach_type: hook as u32,
        ..Load::default()
    };
    // SAFETY: the structure has the kernel's layout, its size is passed, and what it points to
    // outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            5, /* PROG_LOAD */
            &raw const attributes,
            size_of::<Load>(),
        )
    };
    match i32::try_from(fd) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "bpf(2) has no wrapper")]
fn attach_one(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, hook: Hook) -> io::Result<()> {
    let attributes = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: hook as u32,
        flags: 2, // BPF_F_ALLOW_MULTI
    };
    // SAFETY: the structure has the kernel's layout and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            8, /* PROG_ATTACH */
            &raw const attributes,
            size_of::<Attach>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_accepts_every_program() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skip: loading BPF programs needs root");
            return;
        }
        for pool in ["127.64.0.0/16", "127.200.128.0/17", "127.0.0.0/8"] {
            for own in [[127, 65, 0, 1], [127, 255, 255, 254]] {
                for hook in HOOKS.into_iter().chain([Hook::SetOption]) {
                    let code = program(hook, own.into(), pool.parse().unwrap());
                    match load(hook, &code) {
                        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                            eprintln!("skip: {e}");
                            return;
                        }
                        loaded => drop(loaded.unwrap_or_else(|e| panic!("{hook:?}: {e}"))),
                    }
                }
            }
        }
    }
}
