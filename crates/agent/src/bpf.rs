//! BPF programs on an instance's cgroup that give it a loopback address of its own.
//!
//! Hand-assembled, since each is a few dozen instructions at most. For TCP and UDP alike:
//! - a bind to any address or to localhost becomes a bind to the instance's own address, so that
//!   all replicas may listen on one port. Any address with port 0 is left alone: that is how
//!   clients bind;
//! - what goes to localhost goes to the own address: localhost is the instance, so what listens
//!   on the host's loopback alone is out of reach. Localhost is all of 127.0.0.0/8 outside the
//!   pool, and the address zero, by which the kernel means localhost. Only the machine's resolvers
//!   are the host's. A datagram's answer seems to come from where the datagram was sent;
//! - what goes to the pool of service addresses comes from the own address, so that the edge
//!   knows who calls. Where it goes is not changed;
//! - what would reach a socket of the host that is bound to any address is refused: such a socket
//!   is found at every address of loopback where nobody else listens. At [`Addresses::host`] it may
//!   be reached, and at the host's addresses that are not loopback's.
//!
//! An instance that is to stay inside has no way past loopback: its connections elsewhere are refused,
//! and what leaves the machine all the same, by whatever kind of socket, is dropped.
//!
//! An IPv6 socket that refuses IPv4 (`IPV6_V6ONLY`) could not have such an address, so it is made
//! one that takes both. It is the twin of an IPv4 socket as a rule (nginx and redis open both, in
//! any order): which family binds a port first has it, and the other gets any free port of another
//! address, where it is in nobody's way.
//!
//! Not covered: datagrams that a socket sends to `::1` without connecting, which are refused; what
//! others than the edge answer a UDP socket that has a port of its own, from outside the machine.
//!
//! The programs stay attached until the cgroup is removed; nobody needs to stay alive.

mod assembler;
mod devices;
mod kernel;
mod program;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use base::Ipv4Cidr;

pub(crate) use self::devices::Refusal;
use self::kernel::Hook;
pub(crate) use self::program::TWINS;
use self::program::program;

const HOOKS: [Hook; 9] = [
    Hook::Create,
    Hook::Bind4,
    Hook::Bind6,
    Hook::Connect4,
    Hook::Connect6,
    Hook::Send4,
    Hook::Send6,
    Hook::Receive4,
    Hook::Receive6,
];

/// Kernels before 5.18 and 5.9 do not have these; all but IPv6 twins work without.
const FOR_TWINS: [Hook; 2] = [Hook::SetOption, Hook::Release];

/// Sockets and ports of one instance of which is noted which family has them. Past it an IPv6
/// twin clashes.
const PORTS_MAX: u32 = 2048;

/// What the programs of one instance know.
pub(crate) struct Addresses {
    /// Its own address.
    pub(crate) own: Ipv4Addr,
    /// Addresses of services.
    pub(crate) pool: Ipv4Cidr,
    /// The address of the pool that stands for the host.
    pub(crate) host: Ipv4Addr,
    /// Resolvers of the machine, at addresses of loopback.
    pub(crate) resolvers: Vec<Ipv4Addr>,
    /// Whether nothing else is within its reach.
    pub(crate) inside: bool,
}

/// Attaches the programs to a cgroup2 directory, beside those of others.
pub(crate) fn attach(cgroup: &Path, addresses: &Addresses) -> io::Result<()> {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(cgroup, flags, rustix::fs::Mode::empty())?;
    let ports = kernel::map(PORTS_MAX)?;
    let attach = |hook| {
        let program = kernel::load(hook, &program(hook, addresses, ports.as_raw_fd()))?;
        kernel::attach(cgroup.as_fd(), program.as_fd(), hook)
    };
    HOOKS.into_iter().try_for_each(attach)?;
    if addresses.inside {
        attach(Hook::Egress)?;
    }
    let _clash = FOR_TWINS.into_iter().try_for_each(attach);
    Ok(())
}

/// Attaches a program to a cgroup2 directory that refuses to do this with devices.
pub(crate) fn refuse_devices(cgroup: &Path, refusals: &[Refusal]) -> io::Result<()> {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(cgroup, flags, rustix::fs::Mode::empty())?;
    let program = kernel::load(Hook::Device, &devices::program(refusals))?;
    kernel::attach(cgroup.as_fd(), program.as_fd(), Hook::Device)
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
        let ports = match kernel::map(PORTS_MAX) {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skip: {e}");
                return;
            }
            ports => ports.unwrap(),
        };
        for pool in ["127.64.0.0/16", "127.200.128.0/17", "127.0.0.0/8"] {
            let pool: Ipv4Cidr = pool.parse().unwrap();
            for own in [[127, 65, 0, 1], [127, 255, 255, 254]] {
                let resolvers = vec![[127, 0, 0, 53].into(), [127, 0, 0, 1].into()];
                let (own, host) = (own.into(), pool.base());
                let inside = own == Ipv4Addr::new(127, 65, 0, 1);
                let addresses = Addresses { own, pool, host, resolvers, inside };
                for hook in HOOKS.into_iter().chain(FOR_TWINS).chain([Hook::Egress]) {
                    let code = program(hook, &addresses, ports.as_raw_fd());
                    kernel::load(hook, &code).unwrap_or_else(|e| panic!("{hook:?}: {e}"));
                }
            }
        }
    }
}
