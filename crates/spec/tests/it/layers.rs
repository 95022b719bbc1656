//! `extends` and `include`: services and projects that are made of others.

use spec::model::MountKind;
use spec::{App, Finding, load};

use crate::{Memory, brief, options, show};

/// Loads `compose.yaml` beside these files; paths are below `/srv/shop`.
fn try_with(files: &[(&str, &str)]) -> Result<App, Vec<Finding>> {
    let mut memory = Memory::default();
    for (path, text) in files {
        let path = match *path {
            "compose.yaml" => (*path).to_owned(),
            path => format!("/srv/shop/{path}"),
        };
        memory = memory.with(&path, text);
    }
    load(&options(), &memory).map(|loaded| loaded.app)
}

#[track_caller]
fn with(files: &[(&str, &str)]) -> App {
    try_with(files).unwrap_or_else(|found| panic!("{}", show(&found)))
}

#[track_caller]
fn refused(files: &[(&str, &str)]) -> Vec<String> {
    match try_with(files) {
        Ok(_) => panic!("nothing was found"),
        Err(found) => brief(&found),
    }
}

const BASE: &str = "services:\n  base:\n    command: [run, base]\n    environment: {A: 1, B: 1}\n    \
    ports: ['80:80']\n    labels: [l=1]\n    env_file: base.env\n    volumes: ['./data:/data']\n    \
    build: {context: ./app, args: {V: 1}}\n";

#[test]
fn a_service_of_the_same_file() {
    let app = with(&[(
        "compose.yaml",
        "services:\n  a:\n    extends: b\n    environment: [B=2]\n    ports: ['81:81']\n  \
         b:\n    extends: {service: c}\n    command: [run, b]\n  \
         c: {command: run, user: u, environment: {A: 1, B: 1}, ports: ['80:80']}\n",
    )]);
    let a = &app.services["a"];
    assert_eq!(a.command.as_ref().unwrap(), &["run", "b"]);
    assert_eq!(a.user.as_deref(), Some("u"));
    assert_eq!((&*a.environment["A"], &*a.environment["B"]), ("1", "2"));
    assert_eq!(a.ports.iter().map(|p| p.target).collect::<Vec<_>>(), [80, 81]);
    assert_eq!(app.services["b"].ports.len(), 1, "the base stays as it is");
}

#[test]
fn a_service_of_another_file_keeps_its_paths() {
    let app = with(&[
        (
            "compose.yaml",
            "services:\n  web:\n    extends: {file: common/base.yaml, service: base}\n    \
             command: run web\n    volumes: ['./own:/own']\n    build: {args: {W: 2}}\n    \
             x-mainspring: {native: true}\n",
        ),
        ("common/base.yaml", BASE),
        ("common/base.env", "FROM_FILE=yes\nB=file\n"),
    ]);
    let web = &app.services["web"];
    assert_eq!(web.environment["FROM_FILE"], "yes");
    assert_eq!(web.environment["B"], "1");
    let sources: Vec<String> = web
        .volumes
        .iter()
        .map(|m| match &m.kind {
            MountKind::Bind { source, .. } => source.display().to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sources, ["/srv/shop/common/data", "/srv/shop/own"]);
    let build = web.build.as_ref().unwrap();
    assert_eq!(build.context.to_str(), Some("/srv/shop/common/app"));
    assert_eq!(build.args.len(), 2);
    assert_eq!(web.volumes[0].place.to_string(), "common/base.yaml:8:15");
    assert!(!app.services.contains_key("base"), "only what is extended comes along");
}

#[test]
fn a_base_has_a_base_beside_it() {
    let app = with(&[
        ("compose.yaml", "services: {a: {extends: {file: x/b.yaml, service: b}}}"),
        ("x/b.yaml", "services: {b: {extends: {file: ../y/c.yaml, service: c}, user: b}}"),
        ("y/c.yaml", "services: {c: {command: c, user: c, volumes: ['.:/c']}}"),
    ]);
    let a = &app.services["a"];
    assert_eq!((a.user.as_deref(), a.command.as_ref().unwrap()[0].as_str()), (Some("b"), "c"));
    let mount = format!("{:?}", a.volumes[0].kind);
    assert!(mount.contains("\"/srv/shop/y\""), "{mount}");
}

#[test]
fn what_a_service_resets_goes_from_its_base_too() {
    let app = with(&[(
        "compose.yaml",
        "services:\n  a:\n    extends: b\n    ports: !reset []\n    expose: !override [7]\n    \
         environment: {A: !reset null}\n  \
         b: {command: x, ports: ['80:80'], expose: [8, 9], environment: {A: 1, B: 1}}\n",
    )]);
    let a = &app.services["a"];
    assert!(a.ports.is_empty());
    assert_eq!(a.expose.len(), 1);
    assert_eq!(a.environment.keys().collect::<Vec<_>>(), ["B"]);
}

#[test]
fn a_reset_outlives_the_service_that_said_it() {
    let mut options = options();
    options.files = vec!["1.yaml".into(), "2.yaml".into(), "3.yaml".into()];
    let files = Memory::default()
        .with("1.yaml", "services: {a: {command: x, user: one, ports: ['80:80']}}")
        .with("2.yaml", "services: {a: {extends: b, ports: !reset []}, b: {command: y}}")
        .with("3.yaml", "services: {a: {ports: ['81:81']}}");
    let app = load(&options, &files).map_err(|f| show(&f)).unwrap().app;
    let a = &app.services["a"];
    assert_eq!(a.command.as_ref().unwrap(), &["y"]);
    assert_eq!(a.user.as_deref(), Some("one"));
    assert_eq!(a.ports.iter().map(|p| p.target).collect::<Vec<_>>(), [81]);
}

#[test]
fn bases_that_cannot_be() {
    for (files, expected) in [
        (
            &[("compose.yaml", "services: {a: {extends: a, command: x}}")][..],
            "error extends-cycle 1",
        ),
        (
            &[("compose.yaml", "services: {a: {extends: b, command: x}, b: {extends: a}}")],
            "error extends-cycle 1",
        ),
        (
            &[("compose.yaml", "services: {a: {extends: bb, command: x}, b: {command: x}}")],
            "error extends-unknown 1",
        ),
        (
            &[(
                "compose.yaml",
                "services: {a: {extends: {file: no.yaml, service: b}, command: x}}",
            )],
            "error file-unreadable 1",
        ),
        (
            &[("compose.yaml", "services: {a: {extends: {servce: b}, command: x}}")],
            "error key-unknown 1",
        ),
        (
            &[
                ("compose.yaml", "services: {a: {extends: {file: b.yaml, service: b}}}"),
                ("b.yaml", "services: {b: {extends: {file: compose.yaml, service: a}}}"),
            ],
            "error file-unreadable 1",
        ),
        (
            &[
                ("compose.yaml", "services: {a: {extends: {file: b.yaml, service: b}}}"),
                ("b.yaml", "services: {b: {extends: {file: b.yaml, service: b}}}"),
            ],
            "error extends-cycle 1",
        ),
    ] {
        let found = refused(files);
        assert!(found.contains(&expected.to_owned()), "{files:?}: {found:?}");
    }
}

#[test]
fn a_variable_is_that_of_the_file() {
    let app = with(&[
        (
            "compose.yaml",
            "include: [{path: sub/compose.yaml}, other/compose.yaml]\nservices: {a: {command: 'run ${V:-none}'}}",
        ),
        ("sub/.env", "V=sub\nHIDDEN=1"),
        ("sub/compose.yaml", "services: {b: {command: 'run ${V}', environment: [HIDDEN]}}"),
        ("other/compose.yaml", "services: {c: {command: 'run ${V:-none}', environment: [HIDDEN]}}"),
    ]);
    let command = |name: &str| app.services[name].command.as_ref().unwrap()[1].clone();
    assert_eq!([command("a"), command("b"), command("c")], ["none", "sub", "none"]);
    assert_eq!(app.services["b"].environment["HIDDEN"], "1");
    assert!(app.services["c"].environment.is_empty());
}

#[test]
fn the_environment_around_an_include_wins() {
    let app = with(&[
        ("compose.yaml", "include: [sub/compose.yaml]\nservices: {a: {command: x}}"),
        (".env", "V=mine"),
        ("sub/.env", "V=theirs\nW=theirs"),
        ("sub/compose.yaml", "services: {b: {command: 'run ${V} ${W}'}}"),
    ]);
    assert_eq!(app.services["b"].command.as_ref().unwrap(), &["run", "mine", "theirs"]);
}

#[test]
fn the_long_form_of_include() {
    let app = with(&[
        (
            "compose.yaml",
            "include:\n  - path: [sub/compose.yaml, mine.yaml]\n    project_directory: data\n    \
             env_file: [one.env, two.env]\nservices: {a: {command: x, depends_on: [b]}}\n",
        ),
        ("one.env", "V=1\nW=1"),
        ("two.env", "W=2"),
        (
            "sub/compose.yaml",
            "services: {b: {command: 'run $V $W', volumes: ['./x:/x', 'v:/v'], networks: [n]}}\n\
             volumes: {v: }\nnetworks: {n: }",
        ),
        ("mine.yaml", "services: {b: {user: me, volumes: ['./y:/x']}}"),
    ]);
    let b = &app.services["b"];
    assert_eq!(b.command.as_ref().unwrap(), &["run", "1", "2"]);
    assert_eq!(b.user.as_deref(), Some("me"));
    assert!(format!("{:?}", b.volumes[0].kind).contains("/srv/shop/data/y"), "{:?}", b.volumes);
    assert_eq!(app.volumes["v"].name, "shop_v");
    assert!(app.networks.contains_key("n"));
}

#[test]
fn includes_include() {
    let app = with(&[
        ("compose.yaml", "include: [x/compose.yaml]\nservices: {a: {command: x}}"),
        ("x/compose.yaml", "include: [y/compose.yaml]\nservices: {b: {command: x}}"),
        ("x/y/compose.yaml", "services: {c: {command: x, volumes: ['.:/c']}}"),
    ]);
    assert_eq!(app.services.len(), 3);
    assert!(format!("{:?}", app.services["c"].volumes).contains("\"/srv/shop/x/y\""));
}

#[test]
fn a_file_of_ones_own_changes_what_is_included() {
    let mut options = options();
    options.files = vec!["compose.yaml".into(), "override.yaml".into()];
    let files = Memory::default()
        .with("compose.yaml", "include: [sub.yaml]")
        .with("override.yaml", "services: {b: {user: me}}")
        .with("/srv/shop/sub.yaml", "services: {b: {command: x}}");
    let app = load(&options, &files).map_err(|f| show(&f)).unwrap().app;
    assert_eq!(app.services["b"].user.as_deref(), Some("me"));
}

#[test]
fn includes_that_cannot_be() {
    let own = "services: {b: {command: mine}}\nvolumes: {v: {name: one}}\n";
    for (files, expected) in [
        (
            &[
                ("compose.yaml", &*format!("include: [s.yaml]\n{own}")),
                ("s.yaml", "services: {b: {command: theirs}}\nvolumes: {v: {name: two}}"),
            ][..],
            vec!["error include-conflict 2", "error include-conflict 3"],
        ),
        (
            &[("compose.yaml", &*format!("include: [s.yaml]\n{own}"))],
            vec!["error file-unreadable 1"],
        ),
        (
            &[
                ("compose.yaml", &*format!("include: [s.yaml]\n{own}")),
                ("s.yaml", "include: [s.yaml]\nservices: {c: {command: x}}"),
            ],
            vec!["error include-cycle 1"],
        ),
        (&[("compose.yaml", &*format!("include: s.yaml\n{own}"))], vec!["error bad-type 1"]),
        (
            &[("compose.yaml", &*format!("include: [{{file: s.yaml}}]\n{own}"))],
            vec!["error bad-type 1", "error key-unknown 1"],
        ),
    ] {
        let mut found = refused(files);
        found.sort();
        assert_eq!(found, expected, "{files:?}");
    }
    let same = with(&[("compose.yaml", &*format!("include: [s.yaml]\n{own}")), ("s.yaml", own)]);
    assert_eq!(same.services.len(), 1, "what is said twice alike is no conflict");
}

#[test]
fn what_is_read_and_copied_is_bounded() {
    let many: String = (0..300).map(|i| format!("  - f{i}.yaml\n")).collect();
    let names: Vec<String> = (0..300).map(|i| format!("f{i}.yaml")).collect();
    let main = format!("include:\n{many}services: {{a: {{command: x}}}}");
    let mut files = vec![("compose.yaml", main.as_str())];
    files.extend(names.iter().map(|name| (name.as_str(), "volumes: {v: }")));
    assert!(refused(&files).contains(&"error too-many-files 258".to_owned()));

    let labels: String = (0..2000).map(|i| format!("l{i}: 1, ")).collect();
    let services: String =
        (0..400).map(|i| format!("  s{i}: {{extends: base, command: x}}\n")).collect();
    let text = format!("services:\n  base: {{command: x, labels: {{{labels}}}}}\n{services}");
    assert!(refused(&[("compose.yaml", &text)])[0].starts_with("error yaml-bounds"));
}

#[test]
fn logging_options_belong_to_a_driver() {
    let text = |over: &str| {
        format!(
            "services: {{a: {{command: x, logging: {{driver: json-file, options: {{max-size: 1m}}}}}}}}\n\
             ---\nservices: {{a: {{logging: {over}}}}}\n"
        )
    };
    let logging = |over| crate::app(&text(over)).services["a"].logging.clone();
    assert_eq!(logging("{options: {max-file: 2}}").file_bytes_max, Some(1 << 20));
    assert_eq!(logging("{driver: local}").file_bytes_max, None);
}

#[test]
fn a_bare_name_waits_for_the_start() {
    let text = "services:\n  a: {command: x, depends_on: {b: {condition: service_completed_successfully}}}\n  \
        b: {command: x}\n---\nservices: {a: {depends_on: [b]}}\n";
    let waits = &crate::app(text).services["a"].depends_on;
    assert_eq!(waits[0].condition, spec::model::Condition::ServiceStarted);
}
