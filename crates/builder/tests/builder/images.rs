//! Bases: what takes the place of an image.

use base::Place;

use crate::Test;
use crate::bench::{Bench, Said, read};

pub(crate) const TESTS: &[Test] = &[
    ("scratch_begins_with_nothing", scratch),
    ("people_of_the_host_are_not_in_an_image", people),
    ("what_a_stage_takes_over", taken_over),
    ("an_image_without_dockerfile", known),
];

fn scratch() {
    let mut bench = Bench::new("");
    bench.write("hello", "hi");
    bench.dockerfile(
        "FROM debian AS a\nRUN echo x > /x\nFROM scratch\nCOPY --from=a /x /\nCMD [\"/x\"]\n",
    );
    let (image, _) = bench.build();
    assert_eq!(image.base, agent::Base::Empty);
    assert_eq!(read(&image, "x").as_deref(), Some("x\n"));
    assert_eq!(image.recipe.cmd.as_deref(), Some(&["/x".to_owned()][..]));
    // A program that needs nothing runs, one that needs a shell does not.
    let still = std::path::Path::new("/sbin/ldconfig");
    if still.exists() {
        let text = "FROM debian AS a\nFROM scratch\nCOPY --from=a /sbin/ldconfig /ldconfig\n";
        bench.dockerfile(&format!("{text}RUN [\"/ldconfig\", \"--version\"]\n"));
        assert!(bench.build().1.output()[0].starts_with("ldconfig"));
    } else {
        eprintln!("skip a part: no static program here");
    }
    bench.dockerfile("FROM scratch\nRUN echo\n");
    assert_eq!(bench.try_build(&mut Said::default()).unwrap_err().code, "build-step");
}

fn people() {
    let mut bench = Bench::new("");
    let printed =
        bench.prints("FROM debian", "ls -A /home /root /tmp /opt /srv | grep -v '^$'; ls /");
    let (in_them, top) = printed.split_at(5);
    assert_eq!(in_them, ["/home:", "/opt:", "/root:", "/srv:", "/tmp:"]);
    for name in ["work", "app", "data"] {
        assert!(!top.contains(&name.to_owned()), "{top:?}");
    }
    // What packages are there, and what they keep, is the system's.
    let known = std::fs::read_dir("/var/lib").unwrap().flatten().next().unwrap().path();
    let command = format!("ls -d {} /var/tmp; ls -A /var/tmp", known.display());
    let seen = bench.prints("FROM debian", &command);
    assert_eq!(seen, [known.to_str().unwrap(), "/var/tmp"]);
    let printed =
        bench.prints("FROM node:20-slim", "id -u node; stat -c %U /home/node; node -p 1+1");
    assert_eq!(printed, ["1000", "node", "2"]);
}

fn taken_over() {
    let mut bench = Bench::new(
        "FROM debian AS a\nENV X=x\nUSER 5\nWORKDIR /w\nSHELL [\"/bin/bash\", \"-c\"]\nCMD [\"c\"]\n\
         FROM a\nRUN [[ $X = x ]] && id -u && pwd\nENTRYPOINT [\"e\"]\n",
    );
    let (image, said) = bench.build();
    assert_eq!(said.output(), ["5", "/w"]);
    assert_eq!((image.recipe.cmd, image.recipe.user.as_deref()), (None, Some("5")));
    bench.build.target = Some("a".to_owned());
    assert_eq!(bench.build().0.recipe.cmd.unwrap(), ["c"]);
    bench.dockerfile("FROM somebody/unknown:3\nRUN true\n");
    bench.build.target = None;
    let note = "somebody/unknown:3 is not fetched: this machine's own files take its place";
    assert_eq!(bench.build().0.notes, [note]);
}

fn known() {
    let bench = Bench::new("");
    let place = Place { file: "compose.yaml".into(), line: 3, column: 5 };
    assert!(bench.builder.image("somebody/unknown", &place, None).unwrap().is_none());
    // Whichever of these is not here says what brings it.
    for (image, program, package) in [
        ("nginx:1.27", "nginx", "nginx"),
        ("caddy:2", "caddy", "caddy"),
        ("memcached", "memcached", "memcached"),
    ] {
        match bench.builder.image(image, &place, None) {
            Ok(found) => assert!(found.unwrap().recipe.cmd.is_some(), "{image}"),
            Err(error) => {
                let problem = error.problem();
                assert_eq!(problem.code, "toolchain-missing");
                assert_eq!(problem.place.as_ref(), Some(&place));
                assert!(problem.message.contains(image), "{problem} {program}");
                assert_eq!(problem.next.unwrap(), format!("install it: {package}"));
            }
        }
    }
}
