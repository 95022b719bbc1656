//! Nothing that a file says may crash, hang or fill the memory.

use proptest::prelude::*;
use spec::dockerfile;

use crate::{Memory, brief, findings, options};

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{items}]\n"));
    }
    assert_eq!(brief(&findings(&text))[0].split(' ').nth(1), Some("yaml-bounds"));
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), vec!["*a"; 100].join(","));
    assert_eq!(brief(&findings(&long)), ["error yaml-bounds 2"]);
    let merges = "a: &a {x: &b {y: 1}}\nb: {<<: [*a, *a, *a]}\nservices: {s: {command: x}}";
    assert_eq!(brief(&findings(merges)).len(), 2, "only the keys a and b are unknown");
}

#[test]
fn depth_is_bounded() {
    for text in ["[".repeat(10_000), "- ".repeat(10_000), "{a: ".repeat(10_000), "? ".repeat(5_000)]
    {
        let found = brief(&findings(&text));
        assert!(found[0].starts_with("error yaml-"), "{found:?}");
    }
    // Aliases add up: each level is shallow, the whole is not.
    let mut text = String::from("a0: &a0 [x]\n");
    for i in 1..200 {
        text.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert_eq!(brief(&findings(&text))[0].split(' ').nth(1), Some("yaml-bounds"));
}

#[test]
fn sizes_are_bounded() {
    let big = format!("# {}\nservices: {{a: {{command: x}}}}", "x".repeat(2 << 20));
    assert_eq!(brief(&findings(&big)), ["error file-unreadable 0"]);
    let many = "- 1\n".repeat(120_000);
    assert_eq!(brief(&findings(&many))[0].split(' ').nth(1), Some("yaml-bounds"));
    let unknown: String = (0..5000).map(|i| format!("k{i}: 1\n")).collect();
    assert!(findings(&unknown).len() <= 501);
    let ports = crate::about("ports: ['1-65535']");
    assert_eq!(ports, ["error bad-value 4"]);
    let not_text = Memory::default();
    let mut not_text = not_text.with("x", "");
    not_text.0.insert("compose.yaml".into(), vec![0xff, 0xfe, 0x00]);
    let found = spec::load(&options(), &not_text).unwrap_err();
    assert_eq!(brief(&found), ["error file-unreadable 0"]);
}

/// Texts made of what Compose files are made of.
fn yaml_like() -> impl Strategy<Value = String> {
    let words = [
        "services:",
        "a:",
        "  ",
        "\n",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "image: x",
        "build: .",
        "command: ",
        "ports:",
        "volumes:",
        "<<: *x",
        "&x ",
        "*x",
        "!reset ",
        "!override ",
        "'",
        "\"",
        "${A:-b}",
        "$",
        "\n  a:\n    ",
        "healthcheck:",
        "test: ",
        "deploy:",
        "replicas: 2",
        "x-y: ",
        "null",
        "~",
        "|\n   t\n",
        ">-\n",
        "# c\n",
        "---\n",
        "depends_on:",
        "environment:",
        "A=1",
        "8080:80",
        "./a:/b",
        "\t",
        "ä",
        "?",
        "x-mainspring:",
        "native: true",
        "protocol: ",
        "extends: a\n",
        "extends: {file: compose.yaml, service: a}\n",
        "include: [compose.yaml]\n",
        "include:",
        "secrets: [s]",
        "ulimits: {nofile: ",
        "networks: {n: {aliases: [x]}}",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

fn dockerfile_like() -> impl Strategy<Value = String> {
    let words = [
        "FROM a",
        " AS b",
        "FROM b",
        "\n",
        " \\\n",
        "RUN x",
        "COPY ",
        "--from=b ",
        ". /x",
        "<<EOF",
        "EOF\n",
        "ENV A=",
        "$A",
        "${A:-b}",
        "\"",
        "'",
        "CMD [\"a\"]",
        "ENTRYPOINT x",
        "EXPOSE 80/tcp",
        "HEALTHCHECK --interval=3s CMD x",
        "ARG V=1",
        "WORKDIR ../x",
        "# escape=`\n",
        "`",
        "LABEL a=b",
        "USER u",
        "VOLUME [\"/x\"]",
        "SHELL [\"s\"]",
        "STOPSIGNAL 9",
        "ONBUILD RUN x",
        "ä",
        "{",
        "}",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..30)
        .prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut files = Memory::default();
        files.0.insert("compose.yaml".into(), bytes);
        let _ = spec::check::check(&options(), &files);
    }

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let _ = findings(&text);
    }

    #[test]
    fn anything_like_yaml_is_answered(text in yaml_like()) {
        let files = Memory::default()
            .with("compose.yaml", &text)
            .with("/srv/shop/compose.yaml", &text);
        let _ = spec::check::check(&options(), &files);
        if let Ok(loaded) = spec::load(&options(), &files) {
            crate::life::same_after_writing(&loaded.app);
        }
    }

    #[test]
    fn any_dockerfile_is_answered(text in dockerfile_like()) {
        if let Ok(file) = dockerfile::parse(&text, "Dockerfile".as_ref(), 0) {
            let _ = dockerfile::final_stage(&file, None, &Default::default());
        }
    }

    #[test]
    fn any_text_is_no_dockerfile(text in any::<String>()) {
        let _ = dockerfile::parse(&text, "Dockerfile".as_ref(), 0);
    }
}

#[test]
fn values_that_double_are_bounded() {
    let doubling = |line: &str, n: usize| line.repeat(n);
    let text = format!("FROM a\nENV A={}\n{}CMD x", "x".repeat(64), doubling("ENV A=$A$A\n", 60));
    let file = dockerfile::parse(&text, "Dockerfile".as_ref(), 0).unwrap();
    let found = dockerfile::final_stage(&file, None, &Default::default()).unwrap_err();
    assert!(found[0].problem.message.contains("too long"), "{}", crate::show(&found));
    let files = Memory::default()
        .with("compose.yaml", "services: {a: {command: x}}")
        .with("/srv/shop/.env", &format!("A=xxxxxxxxxxxx\n{}", doubling("A=$A$A\n", 60)));
    let found = spec::load(&options(), &files).unwrap_err();
    assert_eq!(brief(&found)[0].split(' ').nth(1), Some("env-file-syntax"));
    let mut big = options();
    big.env.insert("BIG".into(), "x".repeat(100_000));
    let text = format!(
        "services: {{a: {{command: x, environment: [{}]}}}}",
        vec!["A=$BIG"; 500].join(",")
    );
    let found = spec::load(&big, &Memory::default().with("compose.yaml", &text)).unwrap_err();
    assert_eq!(brief(&found), ["error interpolation 1"]);
}

#[test]
fn long_lists_are_refused_rather_than_slow() {
    let list = |item: &str, n: usize| vec![item; n].join(",");
    for (lines, code) in [
        (format!("ports: [{}]", list("'1-1000'", 20_000)), "too-many-items"),
        (format!("ports: [{}]", list("'1-1000'", 4000)), "too-many-ports"),
        (format!("expose: [{}]", list("'1-1000'", 20_000)), "too-many-ports"),
        (format!("volumes: [{}]", list("/a", 20_000)), "too-many-items"),
        (format!("env_file: [{}]", list("/a", 20_000)), "too-many-items"),
    ] {
        let found = crate::about(&lines);
        assert!(found.iter().any(|f| f.contains(code)), "{code}: {:?}", &found[..1]);
    }
    let services: String = (0..1001).map(|i| format!("  s{i}: {{command: x}}\n")).collect();
    assert_eq!(brief(&findings(&format!("services:\n{services}"))), ["error too-many-services 1"]);
    let exposed = format!("FROM a\n{}CMD x", "EXPOSE 1-1000\n".repeat(2000));
    let file = dockerfile::parse(&exposed, "Dockerfile".as_ref(), 0).unwrap();
    assert!(dockerfile::final_stage(&file, None, &Default::default()).is_err());
}
