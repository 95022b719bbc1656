//! What an instance may not do, tried from inside.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use agent::{Mode, ProcessSpec, Rights, Seccomp, View};

use crate::harness::{EVERY, FULL, House, NAMESPACES, Test, id, sh, spec, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "capabilities_are_as_asked", modes: FULL, body: capabilities_are_as_asked },
        Test { name: "managing_calls_are_refused", modes: EVERY, body: managing_calls_are_refused },
        Test { name: "a_profile_is_followed", modes: EVERY, body: a_profile_is_followed },
        Test { name: "no_way_to_the_engine", modes: NAMESPACES, body: no_way_to_the_engine },
        Test { name: "no_way_to_another", modes: NAMESPACES, body: no_way_to_another },
        Test { name: "no_way_to_devices", modes: FULL, body: no_way_to_devices },
        Test { name: "what_images_do_works", modes: FULL, body: what_images_do_works },
        Test { name: "privileged_is_said", modes: FULL, body: privileged_is_said },
    ]
}

const OVERLAY: View = View::Overlay { layers: Vec::new() };

fn python(script: &str) -> ProcessSpec {
    let mut spec = spec("a.1", &["/usr/bin/python3", "-c", script]);
    spec.view = OVERLAY;
    spec
}

fn capabilities_are_as_asked(mode: Mode) {
    with_house(mode, async |mut house| {
        let usual = "00000000a00405fb";
        for (user, add, drop, bound, has) in [
            (None, vec![], vec![], usual, usual),
            (None, vec![], vec!["ALL"], "0000000000000000", "0000000000000000"),
            (None, vec!["CHOWN"], vec!["ALL"], "0000000000000001", "0000000000000001"),
            (None, vec!["NET_RAW"], vec!["KILL"], "00000000a00425db", "00000000a00425db"),
            // Somebody else may listen anywhere, and no more.
            (Some("1234"), vec![], vec![], usual, "0000000000000400"),
            (Some("1234"), vec!["NET_RAW"], vec![], "00000000a00425fb", "0000000000000400"),
            (Some("1234"), vec![], vec!["ALL"], "0000000000000000", "0000000000000000"),
        ] {
            let mut spec = sh("a.1", "grep -E 'Cap(Eff|Bnd|Inh)|NoNew' /proc/self/status");
            let set = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            spec.user = user.map(str::to_owned);
            spec.rights = Rights { cap_add: set(add), cap_drop: set(drop), ..Rights::default() };
            let asked = format!("{user:?} {:?}", spec.rights);
            let inherited = if user.is_some() { has } else { "0000000000000000" };
            let expected = [
                format!("CapInh:\t{inherited}"),
                format!("CapEff:\t{has}"),
                format!("CapBnd:\t{bound}"),
                "NoNewPrivs:\t1".to_owned(),
            ];
            assert_eq!(house.run(spec).await.last_lines, expected, "{asked}");
            let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
            assert!(warnings.is_empty(), "{asked}: {warnings:?}");
        }
        // As programs that gain rights by being run need it.
        let mut spec = sh("a.1", "grep -E 'NoNew|Seccomp:' /proc/self/status");
        spec.rights.no_new_privileges = Some(false);
        assert_eq!(house.run(spec).await.last_lines, ["NoNewPrivs:\t0", "Seccomp:\t2"]);
    });
}

/// Makes calls by their numbers and says what came of them.
const CALLS: &str = "
import ctypes, errno, os, platform, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
def call(name, x86_64, aarch64, *args):
    r = libc.syscall(x86_64 if x86 else aarch64, *[ctypes.c_ulong(a) for a in args])
    said = errno.errorcode[ctypes.get_errno()] if r < 0 else 'ok'
    if r == 0 and name.startswith('clone'): os._exit(0)
    print(name, said, flush=True)
call('mount', 165, 40, 0, 0, 0, 0, 0)
call('umount2', 166, 39, 0, 0)
call('pivot_root', 155, 41, 0, 0)
call('unshare', 272, 97, 0x10000000)
call('setns', 308, 268, 0, 0)
call('clone', 56, 220, 0x10000011, 0, 0, 0, 0)
call('clone3', 435, 435, 0, 0)
call('bpf', 321, 280, 0, 0, 0)
call('keyctl', 250, 219, 0, 0)
call('add_key', 248, 217, 0, 0, 0, 0)
call('io_uring_setup', 425, 425, 0, 0)
call('perf_event_open', 298, 241, 0, 0, 0, 0, 0)
call('open_by_handle_at', 304, 265, 0, 0, 0)
call('kexec_load', 246, 104, 0, 0, 0, 0)
call('init_module', 175, 105, 0, 0, 0)
call('reboot', 169, 142, 0, 0, 0)
call('settimeofday', 164, 170, 0, 0)
call('sethostname', 170, 161, 0, 0)
call('vsock', 41, 198, 40, 1, 0)
call('personality', 135, 92, 0x40000)
call('of the future', 5000, 5000)
if x86: call('of x32', 0x40000000 | 39, 0)
else: print('of x32 ENOSYS')
t = threading.Thread(target=lambda: print('thread ok', flush=True)); t.start(); t.join()
print(subprocess.run(['/bin/echo', 'process ok'], capture_output=True, text=True).stdout.strip())
call('personality asked', 135, 92, 0xffffffff)
call('getpid', 39, 172)
";

fn managing_calls_are_refused(mode: Mode) {
    with_house(mode, async |mut house| {
        let exit = house.run(python(CALLS)).await;
        assert!(exit.success(), "{exit:?}");
        for line in house.output(&id("a.1")) {
            let expected = match line.rsplit_once(' ').unwrap().0 {
                "thread" | "process" | "personality asked" | "getpid" => "ok",
                "clone3" | "of the future" | "of x32" => "ENOSYS",
                _ => "EPERM",
            };
            assert!(line.ends_with(expected), "{line}: not {expected}");
        }
        assert_eq!(house.output(&id("a.1")).len(), 26);
        let mut open = sh("a.1", "grep Seccomp: /proc/self/status");
        open.rights.seccomp = Seccomp::Unconfined;
        assert_eq!(house.run(open).await.last_lines, ["Seccomp:\t0"]);
    });
}

fn a_profile_is_followed(mode: Mode) {
    with_house(mode, async |mut house| {
        let file = house.folder.path().join("profile.json");
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]}"#;
        std::fs::write(&file, profile).unwrap();
        let script = "mkdir x; kill -USR1 $$; kill -0 $$ && echo alive";
        let mut confined = sh("a.1", script);
        confined.rights.seccomp = Seccomp::Profile(file.clone());
        confined.env.push(("LC_ALL".to_owned(), "C".to_owned()));
        let text = house.run(confined.clone()).await.last_lines.join("\n");
        assert!(
            ["No space left", "not permitted", "alive"].iter().all(|w| text.contains(w)),
            "{text}"
        );
        std::fs::write(&file, "{}").unwrap();
        let refused = house.agent.start(confined).await.unwrap_err().to_string();
        assert!(refused.contains("profile.json") && refused.contains("defaultAction"), "{refused}");
    });
}

fn no_way_to_the_engine(mode: Mode) {
    with_house(mode, async |mut house| {
        let state = std::fs::canonicalize(house.folder.path()).unwrap();
        let socket = UnixListener::bind(state.join("engine.sock")).unwrap();
        std::fs::write(state.join("control.redb"), "secret").unwrap();
        let script = format!(
            "cd /; for t in '{0}/control.redb' /proc/1/root'{0}/control.redb' /proc/1/environ \
             /proc/1/fd/3 /proc/1/mem; do cat $t && echo READ $t; done; \
             ls /proc/1/fd /proc/1/cwd/ && echo LISTED; \
             umount '{0}' && echo UNMOUNTED; umount /proc/kcore && echo UNMOUNTED; \
             unshare -Ur true && echo UNSHARED; nsenter -t 1 -m true && echo ENTERED; \
             kill -9 1; kill -STOP 1; echo 1 > /proc/sys/kernel/panic && echo WROTE; \
             mount -t tmpfs x /tmp && echo MOUNTED; \
             /usr/bin/python3 -c \"import socket; \
             socket.socket(socket.AF_UNIX).connect('{0}/engine.sock')\" && echo CONNECTED; \
             echo end",
            state.display()
        );
        let mut tries = sh("a.1", &script);
        tries.view = OVERLAY;
        let exit = house.run(tries).await;
        let all = house.output(&id("a.1"));
        let done = ["READ", "LISTED", "UNMOUNTED", "UNSHARED", "ENTERED", "WROTE", "MOUNTED"];
        let got_there = |line: &&String| {
            done.iter().chain(&["CONNECTED", "secret"]).any(|word| line.starts_with(word))
        };
        assert_eq!(all.iter().find(got_there), None, "{all:#?}");
        assert!(exit.success() && got_to_the_end(&exit.last_lines), "{exit:?}");
        drop(socket);
        // Abstract sockets belong to the network, which is the host's.
        let name = format!("agent-test-{}", std::process::id());
        let _host = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
        let script = format!(
            "import socket\nown = socket.socket(socket.AF_UNIX); own.bind('\\0own-{name}')\n\
             own.listen()\nsocket.socket(socket.AF_UNIX).connect('\\0own-{name}'); print('own')\n\
             socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('reached')"
        );
        let exit = house.run(python(&script)).await;
        if scopes_sockets() {
            let text = exit.last_lines.join("\n");
            assert!(text.contains("own") && text.contains("Operation not permitted"), "{text}");
            assert!(!text.contains("reached"), "{text}");
        } else {
            eprintln!("skip: Landlock of this kernel does not know abstract sockets");
        }
    });
}

/// Whether a script said so. What it says on one stream and on the other has no order.
fn got_to_the_end(lines: &[String]) -> bool {
    lines.iter().any(|line| line == "end")
}

/// Whether the kernel is 6.12 or later with Landlock.
fn scopes_sockets() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let kernel = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    version >= (6, 12) && kernel.contains("sys_landlock_restrict_self")
}

fn no_way_to_another(mode: Mode) {
    with_house(mode, async |mut house: House| {
        let b = id("b.1");
        let mut other = sh("b.1", "echo private > /tmp/of-b; echo ready; sleep 1000");
        other.view = OVERLAY;
        other.env.push(("PASSWORD".to_owned(), "of-b".to_owned()));
        house.agent.start(other).await.unwrap();
        house.printed(&b, "ready").await;
        let pid = house.agent.status(&b).unwrap().pid.unwrap();
        let state = house.folder.path().display();
        let script = format!(
            "cat /proc/*/environ | tr '\\0' '\\n' | grep -a of-b && echo READ; \
             cat /proc/{pid}/root/tmp/of-b && echo READ; kill -9 {pid} && echo KILLED; \
             find {state} -name of-b 2>/dev/null | grep . && echo FOUND; echo end"
        );
        let mut tries = sh("a.1", &script);
        tries.view = OVERLAY;
        let exit = house.run(tries).await;
        let all = house.output(&id("a.1"));
        let bad = all.iter().find(|l| ["READ", "KILLED", "FOUND"].contains(&l.as_str()));
        assert!(bad.is_none() && got_to_the_end(&exit.last_lines), "{all:#?}");
        assert!(house.agent.status(&b).unwrap().pid.is_some());
        house.agent.kill(&b).await.unwrap();
    });
}

fn no_way_to_devices(mode: Mode) {
    with_house(mode, async |mut house| {
        // Even with the capability, since a node among files is none.
        let script = "mknod /usr/zero c 1 5 && echo made; head -c 1 /usr/zero && echo READ; \
            cat /proc/kcore | head -c 1 | wc -c; ls /sys/firmware | wc -l; \
            touch /sys/kernel/x && echo WROTE; echo end";
        let mut tries = sh("a.1", script);
        tries.view = OVERLAY;
        tries.rights.cap_add.insert("MKNOD".to_owned());
        let exit = house.run(tries).await;
        let said = |line: &str| exit.last_lines.iter().any(|l| l == line);
        assert!(said("made") && said("end") && said("0"), "{exit:?}");
        assert!(!said("READ") && !said("WROTE"), "{exit:?}");
    });
}

fn what_images_do_works(mode: Mode) {
    with_house(mode, async |mut house| {
        // An entrypoint that prepares as root and goes on as somebody else.
        let script = "set -e; mkdir -p /data/x; chown -R 1234:1234 /data; chmod 700 /data; \
            setpriv --reuid 1234 --regid 1234 --clear-groups sh -c 'id -u; touch /data/x/y'; \
            /usr/sbin/chroot / true; ls -ln /data/x | tail -1 | awk '{print $3}'";
        let mut spec = sh("a.1", script);
        spec.view = OVERLAY;
        let exit = house.run(spec).await;
        assert_eq!(exit.last_lines, ["1234", "1234"], "{exit:?}");
        let listen = "import socket; s = socket.socket(); s.bind(('127.99.7.8', 81)); print('80')";
        for user in [None, Some("1234:1234")] {
            let mut spec = python(listen);
            spec.user = user.map(str::to_owned);
            assert_eq!(house.run(spec).await.last_lines, ["80"], "{user:?}");
        }
        let mut spec = python(listen);
        spec.rights.cap_drop.insert("NET_BIND_SERVICE".to_owned());
        assert!(!house.run(spec).await.success());
    });
}

fn privileged_is_said(mode: Mode) {
    with_house(mode, async |mut house| {
        let mut spec =
            sh("a.1", "mount -t tmpfs x /mnt && grep -E 'Seccomp:|NoNew' /proc/$$/status");
        spec.view = OVERLAY;
        spec.rights.privileged = true;
        let exit = house.run(spec).await;
        assert_eq!(exit.last_lines, ["NoNewPrivs:\t0", "Seccomp:\t0"], "{exit:?}");
        let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        assert!(warnings.iter().any(|w| w.starts_with("privileged")), "{warnings:?}");
    });
}
