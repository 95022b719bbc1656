//! What each program does, instruction by instruction.
//!
//! R6 is the context, R7 the kind of socket. A socket's priority is where the programs note what
//! they know of it: nothing else on loopback asks for it, and for what leaves the machine all of
//! the notes mean what no priority means.

use std::net::Ipv4Addr;

use super::Addresses;
use super::assembler::{Assembler, Label, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Register, STACK};
use super::kernel::Hook;

// Offsets in `struct bpf_sock_addr`.
const IP4: i16 = 4;
const IP6: i16 = 8;
const PORT: i16 = 24;
const TYPE: i16 = 32;
const SOURCE4: i16 = 40;
const SOURCE6: i16 = 44;
const SOCKET: i16 = 64;

/// Offset in `struct __sk_buff`.
const INTERFACE: i16 = 40;

// Offsets in `struct bpf_sock`.
const PRIORITY: i16 = 20;
const BOUND4: i16 = 24;
const STATE: i16 = 72;

/// `BPF_TCP_ESTABLISHED`: connected, of UDP too.
const CONNECTED: i32 = 1;

// Offsets in `struct bpf_sockopt`.
const OPTION_SOCKET: i16 = 0;
const OPTION_VALUE: i16 = 8;
const OPTION_END: i16 = 16;
const OPTION_LEVEL: i16 = 24;
const OPTION_NAME: i16 = 28;

// `enum bpf_func_id`.
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const COOKIE: i32 = 46;
const SET_OPTION: i32 = 49;
const BIND: i32 = 64;
const FIND_TCP: i32 = 84;
const FIND_UDP: i32 = 85;
const LET_GO: i32 = 86;

// Notes in a socket's priority: addresses of loopback, of which these are nobody's.
/// It is an instance's.
const INSTANCE: i32 = word(Ipv4Addr::new(127, 0, 0, 0));
/// It last sent to `::1`; any other address of loopback says that it last sent there.
const SENT_TO_ONE6: i32 = word(Ipv4Addr::new(127, 255, 255, 255));

/// The third word of every IPv4 address inside IPv6.
const MAPPED: i32 = i32::from_ne_bytes([0, 0, 0xff, 0xff]);
/// The last word of `::1`.
const ONE: i32 = i32::from_ne_bytes([0, 0, 0, 1]);
const LOCALHOST: i32 = word(Ipv4Addr::LOCALHOST);
const LOOPBACK_MASK: i32 = word(Ipv4Addr::new(255, 0, 0, 0));

/// Where twins are, which nobody calls.
pub(crate) const TWINS: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

/// The number that loopback has in every network.
const LOOPBACK: i32 = 1;

/// Which family had a port first.
const FOUR: i32 = 4;
const SIX: i32 = 6;

/// An address as the kernel keeps it: network order in memory.
const fn word(address: Ipv4Addr) -> i32 {
    i32::from_ne_bytes(address.octets())
}

/// The program for a hook. `ports` is the descriptor of the map of ports.
pub(super) fn program(hook: Hook, addresses: &Addresses, ports: i32) -> Vec<u8> {
    let mut a = Assembler::default();
    let (out, refuse, deny) = (a.label(), a.label(), a.label());
    let mut p = Program { a: &mut a, addresses, ports, out, refuse, deny };
    p.a.copy(R6, R1);
    if !matches!(hook, Hook::Create | Hook::SetOption | Hook::Release | Hook::Egress) {
        let datagrams = p.a.label();
        p.a.load(R7, R6, TYPE);
        p.a.jump_if(R7, libc::SOCK_STREAM, datagrams);
        p.a.jump_unless(R7, libc::SOCK_DGRAM, out);
        p.a.place(datagrams);
    }
    match hook {
        Hook::Create => p.create(),
        Hook::Bind4 => p.bind4(),
        Hook::Bind6 => p.bind6(),
        Hook::Connect4 => p.connect4(),
        Hook::Connect6 => p.connect6(),
        Hook::Send4 => p.send4(),
        Hook::Send6 => p.send6(),
        Hook::Receive4 => p.receive4(),
        Hook::Receive6 => p.receive6(),
        Hook::SetOption => p.set_option(),
        Hook::Release => p.release(),
        Hook::Egress => p.egress(),
        // It has programs of its own.
        Hook::Device => {}
    }
    a.place(out);
    // 1 is to go on.
    a.set(R0, 1);
    a.exit();
    match hook {
        Hook::Send4 | Hook::Send6 => {
            a.place(refuse);
            a.set(R0, 0);
            a.exit();
        }
        Hook::Egress => {
            a.place(deny);
            a.set(R0, 0);
            a.exit();
        }
        Hook::Connect4 | Hook::Connect6 => {
            a.place(refuse);
            // Nobody can listen on port 0, so the kernel says that the connection is refused.
            a.set(R2, 0);
            a.store(R6, PORT, R2);
            a.set(R0, 1);
            a.exit();
            // The caller hears that it may not; the kernel takes no code that nothing leads to.
            if addresses.inside {
                a.place(deny);
                a.set(R0, 0);
                a.exit();
            }
        }
        _ => {}
    }
    a.finish()
}

struct Program<'a> {
    a: &'a mut Assembler,
    addresses: &'a Addresses,
    ports: i32,
    out: Label,
    refuse: Label,
    deny: Label,
}

impl Program<'_> {
    fn own(&self) -> i32 {
        word(self.addresses.own)
    }

    /// The note of a socket that was told to refuse IPv4: an address that is no localhost's.
    fn only6(&self) -> i32 {
        word(self.addresses.pool.base())
    }

    fn create(&mut self) {
        self.a.set(R2, INSTANCE);
        self.a.store(R6, PRIORITY, R2);
    }

    /// What leaves the machine is dropped, whatever made it.
    fn egress(&mut self) {
        self.a.load(R2, R6, INTERFACE);
        self.a.jump_unless(R2, LOOPBACK, self.deny);
    }

    /// Where connections go that are for neither localhost nor the pool.
    fn outside(&self) -> Label {
        if self.addresses.inside { self.deny } else { self.out }
    }

    fn bind4(&mut self) {
        let replace = self.a.label();
        self.a.load(R2, R6, IP4);
        self.sort(replace, self.out);
        self.a.jump_unless(R2, 0, self.out);
        self.a.load(R3, R6, PORT);
        self.a.jump_if(R3, 0, self.out);
        self.a.place(replace);
        self.a.set(R8, FOUR);
        self.claim_port();
        self.a.store(R6, IP4, R8);
    }

    fn bind6(&mut self) {
        let (replace, mapped, any) = (self.a.label(), self.a.label(), self.a.label());
        self.zero_half(self.out);
        self.a.load(R2, R6, IP6 + 12);
        self.a.load(R3, R6, IP6 + 8);
        self.a.jump_if(R3, MAPPED, mapped);
        self.a.jump_unless(R3, 0, self.out);
        self.a.jump_if(R2, ONE, replace);
        self.a.jump(any);
        self.a.place(mapped);
        self.sort(replace, self.out);
        self.a.place(any);
        self.a.jump_unless(R2, 0, self.out);
        self.a.load(R3, R6, PORT);
        self.a.jump_if(R3, 0, self.out);
        self.a.place(replace);
        let both = self.a.label();
        self.a.set(R8, FOUR);
        self.load_priority(R2);
        self.a.jump_unless(R2, self.only6(), both);
        self.a.set(R8, SIX);
        self.a.place(both);
        self.claim_port();
        self.store_mapped(R8);
    }

    /// Takes the port for the family in R8, unless the other one has it: then this socket is its
    /// twin, and gets any port elsewhere. Its address is in R8 then.
    fn claim_port(&mut self) {
        let (fresh, own, done) = (self.a.label(), self.a.label(), self.a.label());
        let (key, family, cookie) = (-8, -16, -24);
        self.a.load(R3, R6, PORT);
        self.a.jump_if(R3, 0, own);
        self.a.load(R4, R6, TYPE);
        self.a.shift_left(R4, 16);
        self.a.or(R3, R4);
        self.a.store(STACK, key, R3);
        // No socket's cookie is as large.
        self.a.store_number(STACK, key + 4, -1);
        self.with_map(R2, key);
        self.a.call(MAP_LOOKUP);
        self.a.jump_if_null(R0, fresh);
        self.a.load(R0, R0, 0);
        self.a.jump_if_same(R0, R8, own);
        self.a.set(R2, 0);
        self.a.store(R6, PORT, R2);
        self.a.set(R8, word(TWINS));
        self.a.jump(done);
        self.a.place(fresh);
        self.a.store(STACK, family, R8);
        self.a.store_number(STACK, family + 4, 0);
        self.put(key, family);
        self.a.copy(R1, R6);
        self.a.call(COOKIE);
        self.a.store_wide(STACK, cookie, R0);
        self.put(cookie, key);
        self.a.place(own);
        self.a.set(R8, self.own());
        self.a.place(done);
    }

    /// A socket that goes gives back its port.
    fn release(&mut self) {
        let (key, cookie) = (-8, -16);
        self.a.copy(R1, R6);
        self.a.call(COOKIE);
        self.a.store_wide(STACK, cookie, R0);
        self.with_map(R2, cookie);
        self.a.call(MAP_LOOKUP);
        self.a.jump_if_null(R0, self.out);
        self.a.load_pointer(R1, R0, 0);
        self.a.store_wide(STACK, key, R1);
        for at in [key, cookie] {
            self.with_map(R2, at);
            self.a.call(MAP_DELETE);
        }
    }

    fn connect4(&mut self) {
        let (local, in_pool, bind) = (self.a.label(), self.a.label(), self.a.label());
        self.a.load(R2, R6, IP4);
        self.leave_resolvers();
        self.sort(local, in_pool);
        self.a.jump_unless(R2, 0, self.outside());
        self.a.set(R2, LOCALHOST);
        self.a.place(local);
        self.note();
        self.a.set(R2, self.own());
        self.a.store(R6, IP4, R2);
        self.refuse_if_the_hosts();
        self.a.jump_if(R7, libc::SOCK_STREAM, self.out);
        // Answers to localhost go to the own address, and must find a connected socket there.
        self.a.jump(bind);
        self.a.place(in_pool);
        self.refuse_unless_ours(IP4);
        self.a.place(bind);
        // struct sockaddr_in
        self.a.store_number(STACK, -16, family(libc::AF_INET));
        self.a.store_number(STACK, -12, self.own());
        self.a.store_number(STACK, -8, 0);
        self.a.store_number(STACK, -4, 0);
        self.bind_own(16);
    }

    fn connect6(&mut self) {
        let (local, mapped, in_pool) = (self.a.label(), self.a.label(), self.a.label());
        let (one, bind, outside) = (self.a.label(), self.a.label(), self.outside());
        self.zero_half(outside);
        self.a.load(R2, R6, IP6 + 12);
        self.a.load(R3, R6, IP6 + 8);
        self.a.jump_if(R3, MAPPED, mapped);
        self.a.jump_unless(R3, 0, outside);
        self.a.jump_if(R2, ONE, one);
        self.a.jump_unless(R2, 0, outside);
        self.a.place(one);
        self.a.set(R2, SENT_TO_ONE6);
        self.a.jump(local);
        self.a.place(mapped);
        self.leave_resolvers();
        self.sort(local, in_pool);
        self.a.jump_unless(R2, 0, outside);
        self.a.set(R2, LOCALHOST);
        self.a.place(local);
        self.note();
        self.a.set(R2, self.own());
        self.store_mapped(R2);
        self.refuse_if_the_hosts();
        self.a.jump_if(R7, libc::SOCK_STREAM, self.out);
        self.a.jump(bind);
        self.a.place(in_pool);
        self.refuse_unless_ours(IP6 + 12);
        self.a.place(bind);
        // struct sockaddr_in6
        self.a.store_number(STACK, -28, family(libc::AF_INET6));
        self.a.store_number(STACK, -24, 0);
        self.a.store_number(STACK, -20, 0);
        self.a.store_number(STACK, -16, 0);
        self.a.store_number(STACK, -12, MAPPED);
        self.a.store_number(STACK, -8, self.own());
        self.a.store_number(STACK, -4, 0);
        self.bind_own(28);
    }

    /// A datagram of a socket that is not connected; IPv4 inside IPv6 comes here too.
    fn send4(&mut self) {
        let (local, in_pool, outside) = (self.a.label(), self.a.label(), self.a.label());
        let anew = self.a.label();
        self.a.load(R2, R6, IP4);
        // The kernel comes here with IPv6 sockets that are connected, when all is done.
        self.a.jump_unless(R2, self.own(), anew);
        self.a.load_pointer(R3, R6, SOCKET);
        self.a.load(R3, R3, STATE);
        self.a.jump_if(R3, CONNECTED, self.out);
        self.a.place(anew);
        self.leave_resolvers();
        self.sort(local, in_pool);
        self.a.jump_unless(R2, 0, outside);
        self.a.set(R2, LOCALHOST);
        self.a.place(local);
        self.note();
        self.a.set(R2, self.own());
        self.a.store(R6, IP4, R2);
        self.refuse_if_the_hosts();
        self.a.jump(self.out);
        self.a.place(in_pool);
        self.refuse_unless_ours(IP4);
        self.a.set(R2, self.own());
        self.a.store(R6, SOURCE4, R2);
        self.a.jump(self.out);
        // The own address is nobody's outside: the kernel chooses another.
        self.a.place(outside);
        self.a.load(R2, R6, SOURCE4);
        self.a.jump_unless(R2, self.own(), self.out);
        self.a.set(R2, 0);
        self.a.store(R6, SOURCE4, R2);
    }

    /// The kernel takes no IPv4 address here: what is for localhost cannot go to the own one.
    fn send6(&mut self) {
        let outside = self.a.label();
        self.zero_half(outside);
        self.a.load(R3, R6, IP6 + 8);
        self.a.jump_unless(R3, 0, outside);
        self.a.load(R2, R6, IP6 + 12);
        self.a.jump_if(R2, ONE, self.refuse);
        self.a.jump_if(R2, 0, self.refuse);
        self.a.place(outside);
        self.a.load(R2, R6, SOURCE6 + 8);
        self.a.jump_unless(R2, MAPPED, self.out);
        self.a.set(R2, 0);
        for at in [8, 12] {
            self.a.store(R6, SOURCE6 + at, R2);
        }
    }

    /// What was sent to localhost is answered from there.
    fn receive4(&mut self) {
        self.a.load(R2, R6, IP4);
        self.a.jump_unless(R2, self.own(), self.out);
        self.load_sent_to();
        self.a.store(R6, IP4, R2);
    }

    fn receive6(&mut self) {
        let four = self.a.label();
        self.zero_half(self.out);
        self.a.load(R2, R6, IP6 + 8);
        self.a.jump_unless(R2, MAPPED, self.out);
        self.a.load(R2, R6, IP6 + 12);
        self.a.jump_unless(R2, self.own(), self.out);
        self.load_sent_to();
        self.a.jump_unless(R2, SENT_TO_ONE6, four);
        self.a.set(R2, 0);
        self.a.store(R6, IP6 + 8, R2);
        self.a.set(R2, ONE);
        self.a.place(four);
        self.a.store(R6, IP6 + 12, R2);
    }

    /// Where this socket last sent, in R2; goes out if that was not localhost.
    fn load_sent_to(&mut self) {
        self.load_priority(R2);
        self.a.jump_if(R2, INSTANCE, self.out);
        self.a.jump_if(R2, self.only6(), self.out);
        self.a.copy(R3, R2);
        self.a.and(R3, LOOPBACK_MASK);
        self.a.jump_unless(R3, INSTANCE, self.out);
    }

    /// A socket that is told to refuse IPv4 is not, since it could not have the own address; that
    /// it was is noted.
    fn set_option(&mut self) {
        self.a.load(R2, R6, OPTION_LEVEL);
        self.a.jump_unless(R2, libc::IPPROTO_IPV6, self.out);
        self.a.load(R2, R6, OPTION_NAME);
        self.a.jump_unless(R2, libc::IPV6_V6ONLY, self.out);
        // The value must be shown to be there before it is used.
        self.a.load_pointer(R2, R6, OPTION_VALUE);
        self.a.load_pointer(R3, R6, OPTION_END);
        self.a.copy(R1, R2);
        self.a.add(R1, 4);
        self.a.jump_if_greater(R1, R3, self.out);
        self.a.load(R3, R2, 0);
        self.a.jump_if(R3, 0, self.out);
        self.a.store_number(R2, 0, 0);
        self.a.store_number(STACK, -4, self.only6());
        self.a.load_pointer(R1, R6, OPTION_SOCKET);
        self.set_priority();
    }

    /// Goes to `out` unless the first half of the IPv6 address is zero.
    fn zero_half(&mut self, out: Label) {
        for at in [0, 4] {
            self.a.load(R2, R6, IP6 + at);
            self.a.jump_unless(R2, 0, out);
        }
    }

    fn store_mapped(&mut self, address: Register) {
        self.a.set(R3, MAPPED);
        self.a.store(R6, IP6 + 8, R3);
        self.a.store(R6, IP6 + 12, address);
    }

    /// Goes to one of these when R2 is localhost or in the pool. Changes R3.
    fn sort(&mut self, local: Label, in_pool: Label) {
        let pool = self.addresses.pool;
        self.a.copy(R3, R2);
        self.a.and(R3, word(Ipv4Addr::from_bits(pool.mask())));
        self.a.jump_if(R3, word(pool.base()), in_pool);
        self.a.copy(R3, R2);
        self.a.and(R3, LOOPBACK_MASK);
        self.a.jump_if(R3, word(Ipv4Addr::new(127, 0, 0, 0)), local);
    }

    /// Goes out when R2 is one of the machine's resolvers, asked as such. Changes R3.
    fn leave_resolvers(&mut self) {
        let other = self.a.label();
        self.a.load(R3, R6, PORT);
        self.a.jump_unless(R3, i32::from(53u16.to_be()), other);
        for resolver in &self.addresses.resolvers {
            self.a.jump_if(R2, word(*resolver), self.out);
        }
        self.a.place(other);
    }

    /// What goes to the address of the pool in R2, which stands at `at` too: refused when only the
    /// host would get it.
    fn refuse_unless_ours(&mut self, at: i16) {
        let (other, fine) = (self.a.label(), self.a.label());
        self.a.jump_unless(R2, self.own(), other);
        self.a.set(R2, INSTANCE);
        self.note();
        self.a.place(other);
        self.a.load(R2, R6, at);
        self.a.jump_if(R2, word(self.addresses.host), fine);
        self.refuse_if_the_hosts();
        self.a.place(fine);
    }

    /// Refuses what is for R2 when nobody listens there but the host on all of its addresses.
    fn refuse_if_the_hosts(&mut self) {
        let (datagrams, found, fine) = (self.a.label(), self.a.label(), self.a.label());
        // struct bpf_sock_tuple, of IPv4
        self.a.store_number(STACK, -12, self.own());
        self.a.store(STACK, -8, R2);
        self.a.store_number(STACK, -4, 0);
        self.a.load(R3, R6, PORT);
        self.a.store_half(STACK, -2, R3);
        self.a.copy(R1, R6);
        self.a.copy(R2, STACK);
        self.a.add(R2, -12);
        self.a.set(R3, 12);
        self.a.set(R4, -1);
        self.a.set(R5, 0);
        self.a.jump_unless(R7, libc::SOCK_STREAM, datagrams);
        self.a.call(FIND_TCP);
        self.a.jump(found);
        self.a.place(datagrams);
        self.a.call(FIND_UDP);
        self.a.place(found);
        self.a.jump_if_null(R0, fine);
        self.a.load(R8, R0, BOUND4);
        self.a.load(R9, R0, PRIORITY);
        self.a.copy(R1, R0);
        self.a.call(LET_GO);
        self.a.jump_unless(R8, 0, fine);
        self.a.and(R9, LOOPBACK_MASK);
        self.a.jump_unless(R9, INSTANCE, self.refuse);
        self.a.place(fine);
    }

    /// Notes R2 in the socket's priority. Changes R1 to R5.
    fn note(&mut self) {
        let done = self.a.label();
        self.load_priority(R3);
        self.a.jump_if_same(R2, R3, done);
        self.a.store(STACK, -4, R2);
        self.a.copy(R1, R6);
        self.set_priority();
        self.a.place(done);
    }

    /// Sets the priority, at the end of the stack, of what is in R1.
    fn set_priority(&mut self) {
        self.a.set(R2, libc::SOL_SOCKET);
        self.a.set(R3, libc::SO_PRIORITY);
        self.a.copy(R4, STACK);
        self.a.add(R4, -4);
        self.a.set(R5, 4);
        self.a.call(SET_OPTION);
    }

    fn load_priority(&mut self, to: Register) {
        self.a.load_pointer(to, R6, SOCKET);
        self.a.load(to, to, PRIORITY);
    }

    /// The map in R1, and in `to` the address of what stands at `at` of the stack.
    fn with_map(&mut self, to: Register, at: i16) {
        self.a.map(R1, self.ports);
        self.a.copy(to, STACK);
        self.a.add(to, i32::from(at));
    }

    fn put(&mut self, key: i16, value: i16) {
        self.with_map(R2, key);
        self.a.copy(R3, STACK);
        self.a.add(R3, i32::from(value));
        self.a.set(R4, 0);
        self.a.call(MAP_UPDATE);
    }

    /// Binds the socket to the address of `length` bytes at the end of the stack. A socket that is
    /// bound already refuses, and keeps what it has.
    fn bind_own(&mut self, length: i32) {
        self.a.copy(R1, R6);
        self.a.copy(R2, STACK);
        self.a.add(R2, -length);
        self.a.set(R3, length);
        self.a.call(BIND);
    }
}

/// The first word of a socket address with port 0.
fn family(family: i32) -> i32 {
    let [a, b] = u16::try_from(family).unwrap_or_default().to_ne_bytes();
    i32::from_ne_bytes([a, b, 0, 0])
}
