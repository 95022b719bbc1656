//! Dockerfiles, as recipes and as part of a service.

use std::collections::BTreeMap;
use std::path::Path;

use spec::dockerfile::{
    Action, Copy, ImageRecipe, Origin, Plan, Run, RunMountKind, Start, Step, environment,
    final_stage, parse, plan, run_command, working_dir,
};
use spec::model::{PortKind, Test};

use crate::{Memory, brief, options, show};

#[track_caller]
fn recipe_with(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> ImageRecipe {
    let args: BTreeMap<String, String> =
        args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let made = parse(text, Path::new("Dockerfile"), 0).and_then(|f| final_stage(&f, target, &args));
    made.map_err(|f| show(&f)).unwrap()
}

#[track_caller]
fn recipe(text: &str) -> ImageRecipe {
    recipe_with(text, None, &[])
}

#[track_caller]
fn planned(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Plan {
    let args: BTreeMap<String, String> =
        args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let image = |_: &str| ImageRecipe::default();
    let made =
        parse(text, Path::new("Dockerfile"), 0).and_then(|f| plan(&f, target, &args, &image));
    made.map_err(|f| show(&f)).unwrap()
}

/// The steps of the last stage.
#[track_caller]
fn steps(text: &str) -> Vec<Step> {
    planned(text, None, &[]).stages.pop().unwrap().steps
}

#[track_caller]
fn copies(text: &str) -> Vec<Copy> {
    let copy = |step: Step| match step.action {
        Action::Copy(copy) => Some(copy),
        _ => None,
    };
    steps(text).into_iter().filter_map(copy).collect()
}

#[track_caller]
fn runs(text: &str) -> Vec<Run> {
    let run = |step: Step| match step.action {
        Action::Run(run) => Some(run),
        _ => None,
    };
    steps(text).into_iter().filter_map(run).collect()
}

fn errors(text: &str) -> Vec<String> {
    let made = parse(text, Path::new("Dockerfile"), 0)
        .and_then(|f| final_stage(&f, None, &BTreeMap::new()));
    brief(&made.unwrap_err())
}

#[test]
fn a_common_one() {
    let text = "# syntax=docker/dockerfile:1\nFROM python:3.12-slim\n\nWORKDIR /app\nENV PYTHONUNBUFFERED=1 \\\n    \
         # why\n\n    MODE=\"a b\" PATH=/venv/bin:$PATH\nCOPY requirements.txt .\nRUN pip install \\\n  -r requirements.txt\n\
         COPY --chown=app:app . .\nEXPOSE 8000 9000/udp\nUSER app\nHEALTHCHECK --interval=5s --retries=2 CMD curl -f localhost\n\
         STOPSIGNAL INT\nLABEL a=b \"c d\"='e f'\nVOLUME /data cache\nCMD [\"python\", \"app.py\"]\n";
    let (r, copies, steps) = (recipe(text), copies(text), steps(text));
    assert_eq!(r.base, "python:3.12-slim");
    assert_eq!(r.workdir, Path::new("/app"));
    assert_eq!(r.env["MODE"], "a b");
    assert!(r.env["PATH"].starts_with("/venv/bin:/usr/local/sbin:"), "{}", r.env["PATH"]);
    assert_eq!(r.env.len(), 3);
    assert_eq!(copies.len(), 2);
    assert_eq!((copies[0].dest.as_path(), copies[0].dest_is_dir), (Path::new("/app"), true));
    assert_eq!(copies[1].chown.as_deref(), Some("app:app"));
    assert_eq!(copies[1].sources, ["."]);
    assert_eq!(r.expose, [(8000, PortKind::Tcp), (9000, PortKind::Udp)]);
    assert_eq!(r.user.as_deref(), Some("app"));
    assert_eq!(r.stop_signal.as_deref(), Some("SIGINT"));
    let check = r.healthcheck.unwrap();
    assert_eq!((check.test, check.retries), (Test::Shell("curl -f localhost".into()), 2));
    assert_eq!(r.labels["c d"], "e f");
    assert_eq!(r.volumes, [Path::new("/data"), Path::new("/app/cache")]);
    assert_eq!(r.cmd.unwrap(), ["python", "app.py"]);
    let lines: Vec<_> = steps.iter().map(|s| (s.place.line, s.text.as_str())).collect();
    assert_eq!(
        lines,
        [
            (4, "WORKDIR /app"),
            (9, "COPY requirements.txt ."),
            (10, "RUN pip install -r requirements.txt"),
            (12, "COPY --chown=app:app . ."),
        ]
    );
    assert_eq!(brief(&r.findings), Vec::<String>::new());
}

#[test]
fn commands_in_both_forms() {
    for (text, entrypoint, cmd) in [
        ("CMD a b", None, Some(vec!["/bin/sh", "-c", "a b"])),
        ("CMD [\"a\", \"b\"]", None, Some(vec!["a", "b"])),
        ("CMD ['a']", None, Some(vec!["/bin/sh", "-c", "['a']"])),
        ("CMD a\nENTRYPOINT [\"e\"]", Some(vec!["e"]), Some(vec!["/bin/sh", "-c", "a"])),
        ("CMD a\nCMD b", None, Some(vec!["/bin/sh", "-c", "b"])),
        ("SHELL [\"bash\", \"-lc\"]\nCMD a", None, Some(vec!["bash", "-lc", "a"])),
        ("ENTRYPOINT [\"e\"]\nCMD []", Some(vec!["e"]), Some(vec![])),
        ("CMD echo $HOME", None, Some(vec!["/bin/sh", "-c", "echo $HOME"])),
    ] {
        let r = recipe(&format!("FROM a\n{text}\n"));
        let owned = |w: Option<Vec<&str>>| w.map(|w| w.into_iter().map(str::to_owned).collect());
        assert_eq!((r.entrypoint, r.cmd), (owned(entrypoint), owned(cmd)), "{text}");
    }
}

#[test]
fn stages_and_arguments() {
    let text = "ARG V=1\nARG IMG=img:$V\nFROM $IMG AS Base\nARG V\nENV A=$V\nWORKDIR /b\nCMD [\"c\"]\n\
        FROM golang AS build\nRUN go build\nFROM base\nARG W=w\nENV B=$V-${W:-x}-${V:-none} \nWORKDIR sub\n\
        COPY --from=build /out/app /app\nENTRYPOINT [\"/app\"]\n";
    let r = recipe(text);
    assert_eq!(r.base, "img:1");
    assert_eq!(r.env["A"], "1");
    assert_eq!(r.env["B"], "-w-none", "an ARG ends with its stage");
    assert_eq!(r.workdir, Path::new("/b/sub"));
    assert_eq!((r.entrypoint.unwrap(), r.cmd), (vec!["/app".to_owned()], None));
    assert_eq!(copies(text)[0].from, Origin::Stage(1));
    assert_eq!(brief(&r.findings), Vec::<String>::new());
    assert!(runs(text).is_empty(), "another stage's steps are not this one's");
    let given = recipe_with(text, Some("BASE"), &[("V", "2")]);
    assert_eq!((given.base.as_str(), given.env["A"].as_str()), ("img:2", "2"));
    assert_eq!(recipe_with(text, Some("1"), &[]).base, "golang");
    let file = parse(text, Path::new("Dockerfile"), 0).unwrap();
    let found = final_stage(&file, Some("bulid"), &BTreeMap::new()).unwrap_err();
    assert_eq!(found[0].problem.next.as_deref(), Some("did you mean `build`?"));
}

#[test]
fn words_quotes_and_escapes() {
    for (env, value) in [
        ("A=\"a $X b\"", "a x b"),
        ("A='a $X'", "a $X"),
        ("A=a\\ b", "a b"),
        ("A=\\$X", "$X"),
        ("A=\"\\$X\"", "$X"),
        ("A=${X}y", "xy"),
        ("A=${N:-d}", "d"),
        ("A=${X:+r}", "r"),
        ("A=${N+r}", ""),
        ("A the $X rest", "the x rest"),
        ("A=\"q\\\"q\"", "q\"q"),
        ("A=a\"b c\"d", "ab cd"),
        ("A=$X$X", "xx"),
        ("A=C:\\dir", "C:dir"),
        ("A=", ""),
    ] {
        let r = recipe(&format!("FROM a\nENV X=x\nENV {env}\n"));
        assert_eq!(r.env["A"], value, "{env}");
    }
    let text = "# escape=`\nFROM a\nENV A=C:\\dir B=`$X\\\nRUN a `\n b\n";
    let windows = recipe(text);
    assert_eq!(windows.env["A"], "C:\\dir");
    assert_eq!(windows.env["B"], "$X\\");
    assert_eq!(steps(text)[0].text, "RUN a b");
}

#[test]
fn heredocs() {
    let text = "FROM a\nENV X=x\nRUN <<EOF\napt install\nFROM nothing\nEOF\nCOPY <<a.txt <<-'b.txt' /etc/\nhello $X\na.txt\n\
         \tkeep $X\n\tb.txt\nCMD [\"c\"]\n";
    assert_eq!(steps(text)[0].text, "RUN <<EOF apt install FROM nothing");
    let copies = copies(text);
    let inline: Vec<_> =
        copies[0].inline.iter().map(|f| (f.name.as_str(), f.text.as_str())).collect();
    assert_eq!(inline, [("a.txt", "hello x\n"), ("b.txt", "keep $X\n")]);
    assert!(copies[0].sources.is_empty() && copies[0].dest_is_dir);
    assert_eq!(errors("FROM a\nRUN <<EOF\nx\n"), ["error dockerfile-syntax 2"]);
}

#[test]
fn what_is_refused() {
    for (text, expected) in [
        ("", vec!["error dockerfile-syntax 1"]),
        ("RUN x\nFROM a", vec!["error dockerfile-syntax 1"]),
        (
            "FORM a\nFROM b\nCPOY . .",
            vec!["error dockerfile-syntax 1", "error dockerfile-syntax 3"],
        ),
        ("FROM a\nCOPY x", vec!["error dockerfile-syntax 2"]),
        ("FROM a b c d", vec!["error dockerfile-syntax 1"]),
        ("FROM $NONE", vec!["error dockerfile-syntax 1"]),
        ("FROM a\nEXPOSE http", vec!["error dockerfile-syntax 2"]),
        (
            "FROM a\nENV A=\"x\nENV B",
            vec!["error dockerfile-syntax 2", "error dockerfile-syntax 3"],
        ),
        ("FROM a\nHEALTHCHECK x", vec!["error dockerfile-syntax 2"]),
        ("FROM a\nHEALTHCHECK --retries=10001 CMD x", vec!["error dockerfile-syntax 2"]),
        ("FROM a\nCOPY --frm=b x y", vec!["error dockerfile-syntax 2"]),
        ("FROM --platfrom=linux a", vec!["error dockerfile-syntax 1"]),
        ("FROM a\nADD --from=b x y", vec!["error dockerfile-syntax 2"]),
        ("FROM a\nADD git://x/y#-z y", vec!["error dockerfile-syntax 2"]),
    ] {
        assert_eq!(errors(text), expected, "{text}");
    }
    let text = "FROM a\nADD https://x/y.git https://x/y.tgz z /y\nONBUILD RUN x\nCMD x";
    assert_eq!(brief(&recipe(text).findings), ["warning onbuild-ignored 3"]);
    let add = &copies(text)[0];
    assert!(add.unpack && !add.unpack_remote && add.dest_is_dir && add.is_fetching());
    assert_eq!(
        (&add.remote[..], &add.sources[..]),
        (&["https://x/y.tgz".to_owned()][..], &["z".to_owned()][..])
    );
    assert_eq!(add.repositories[0].url, "https://x/y.git");
    let text = "FROM --platform=plan9/vax a AS one\nFROM --platform=linux b\nCOPY --from=one /x /y\n\
                FROM --platform=windows c";
    let target = |name| {
        let parsed = parse(text, Path::new("Dockerfile"), 0).unwrap();
        brief(&final_stage(&parsed, Some(name), &BTreeMap::new()).unwrap().findings)
    };
    assert_eq!(target("1"), ["warning from-platform 1"], "of stages that are needed");
    assert_eq!(target("2"), ["warning from-platform 4"]);
}

#[test]
fn only_the_stages_that_are_needed_in_order() {
    let text = "FROM a AS deps\nRUN a\nFROM b AS tests\nRUN never\nFROM deps AS build\nRUN b\n\
        FROM c AS tools\nFROM scratch\nCOPY --from=build /x /\n\
        RUN --mount=type=bind,from=tools,target=/t t\nCOPY --from=0 /y /z\n";
    let numbers = |target| -> Vec<usize> {
        planned(text, target, &[]).stages.iter().map(|s| s.number).collect()
    };
    assert_eq!(numbers(None), [0, 2, 3, 4]);
    assert_eq!(numbers(Some("build")), [0, 2]);
    assert_eq!(numbers(Some("tests")), [1]);
    let built = planned(text, Some("build"), &[]);
    assert_eq!(built.stages[1].start, Start::Stage(0));
    assert_eq!(built.stages[0].start, Start::Image("a".to_owned()));
    assert_eq!(built.stages[1].steps.len(), 1, "those of the stage below are its own");
    assert_eq!(errors("FROM a\nCOPY --from=0 x y"), ["error dockerfile-syntax 2"]);
    assert!(matches!(copies("FROM a\nCOPY --from=b:1 x y")[0].from, Origin::Image(_)));
}

#[test]
fn run_in_every_form() {
    for (text, argv) in [
        ("RUN a $X", vec!["/bin/sh", "-c", "a $X"]),
        ("RUN [\"a\", \"$X\"]", vec!["a", "$X"]),
        ("SHELL [\"bash\", \"-ec\"]\nRUN a \\\n  # why\n && b", vec!["bash", "-ec", "a  && b"]),
        ("RUN <<EOF\nset -e\na\nEOF", vec!["/bin/sh", "-c", "set -e\na\n"]),
        (
            "RUN python3 - <<'A' && cat <<-B > /b\nprint(1)\nA\n\tx\n\tB",
            vec!["/bin/sh", "-c", "python3 - <<'A' && cat <<-B > /b\nprint(1)\nA\nx\nB"],
        ),
    ] {
        assert_eq!(runs(&format!("FROM a\n{text}\n"))[0].argv, argv, "{text}");
    }
    let script = runs("FROM a\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n");
    assert_eq!(script[0].script.as_deref(), Some("#!/usr/bin/python3\nprint(1)\n"));
}

#[test]
fn what_is_in_force_when_a_step_runs() {
    let text = "FROM a\nARG B=b\nARG C\nRUN one\nENV B=e PATH=/x:$PATH\nUSER app\nWORKDIR /w\n\
        RUN --network=none two\nARG D=late\n";
    let args = [("C", "given"), ("HTTPS_PROXY", "http://p")];
    let steps = planned(text, None, &args).stages.pop().unwrap().steps;
    let (Action::Run(one), Action::Run(two)) = (&steps[0].action, &steps[2].action) else {
        panic!("{steps:?}")
    };
    assert_eq!((one.env["B"].as_str(), one.env["C"].as_str()), ("b", "given"));
    assert_eq!((one.workdir.as_path(), one.user.as_deref()), (Path::new("/"), None));
    assert_eq!(two.env["B"], "e", "ENV wins over ARG");
    assert!(two.env["PATH"].starts_with("/x:/usr/local/sbin") && !two.env.contains_key("D"));
    assert_eq!((two.workdir.as_path(), two.user.as_deref()), (Path::new("/w"), Some("app")));
    assert!(two.offline && !one.offline);
    assert_eq!(two.proxies["HTTPS_PROXY"], "http://p");
    assert!(!two.env.contains_key("HTTPS_PROXY"));
}

#[test]
fn mounts_of_a_step() {
    let run = &runs(
        "FROM a AS x\nFROM b\nARG ID=npm\nWORKDIR /w\n\
        RUN --mount=type=cache,id=$ID,target=/root/.npm,sharing=locked,uid=7,mode=0700 \\\n\
        --mount=target=.,rw --mount=type=bind,from=x,source=/s,dst=/d \\\n\
        --mount=type=tmpfs,target=/t,size=8m --mount=type=secret,id=key,required,env=KEY a",
    )[0];
    let kinds: Vec<_> = run.mounts.iter().map(|m| (m.kind, m.read_only)).collect();
    use RunMountKind::{Bind, Cache, Secret, Tmpfs};
    assert_eq!(
        kinds,
        [(Cache, false), (Bind, false), (Bind, true), (Tmpfs, false), (Secret, true)]
    );
    let [cache, context, stage, memory, secret] = &run.mounts[..] else { panic!() };
    assert_eq!((cache.id.as_deref(), cache.uid, cache.mode), (Some("npm"), Some(7), Some(0o700)));
    assert_eq!((context.target.as_path(), &context.from), (Path::new("/w"), &Origin::Context));
    assert_eq!((stage.source.as_str(), &stage.from), ("/s", &Origin::Stage(0)));
    assert_eq!(memory.size_bytes, Some(8 << 20));
    assert!(secret.required && secret.env.as_deref() == Some("KEY"));
    for bad in ["--mount=type=bind", "--mount=type=x,target=/", "--mount=type=cache", "--what=1"] {
        assert_eq!(errors(&format!("FROM a\nRUN {bad} a")), ["error dockerfile-syntax 2"], "{bad}");
    }
}

#[test]
fn what_an_image_brings_along_counts() {
    let text = "FROM base:1\nENV B=$A-x\nRUN r\nENTRYPOINT [\"e\"]\n";
    let image = |name: &str| ImageRecipe {
        env: [("A".to_owned(), name.to_owned())].into(),
        cmd: Some(vec!["old".to_owned()]),
        user: Some("app".to_owned()),
        ..ImageRecipe::default()
    };
    let file = parse(text, Path::new("Dockerfile"), 0).unwrap();
    let mut made = plan(&file, None, &BTreeMap::new(), &image).unwrap();
    let stage = made.stages.pop().unwrap();
    assert_eq!(stage.recipe.env["B"], "base:1-x");
    assert_eq!((stage.recipe.cmd, stage.recipe.user.as_deref()), (None, Some("app")));
    assert!(matches!(&stage.steps[0].action, Action::Run(r) if r.user.as_deref() == Some("app")));
}

const PYTHON: &str = "FROM python:3\nWORKDIR /app\nENV A=image B=image\nEXPOSE 8000 81\n\
    HEALTHCHECK --interval=7s CMD check\nSTOPSIGNAL QUIT\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\n";

#[track_caller]
fn built(lines: &str) -> (spec::Service, ImageRecipe, Vec<String>) {
    let text = format!("services:\n  a:\n    build: ./app\n{lines}");
    let files =
        Memory::default().with("compose.yaml", &text).with("/srv/shop/app/Dockerfile", PYTHON);
    let loaded = spec::load(&options(), &files).map_err(|f| show(&f)).unwrap();
    let (service, recipe) = (loaded.app.services["a"].clone(), loaded.recipes["a"].clone());
    crate::life::same_after_writing_with(&loaded.app, files);
    (service, recipe, brief(&loaded.findings))
}

#[test]
fn docker_rules_for_what_runs() {
    for (lines, expected) in [
        ("", vec!["e", "c"]),
        ("    command: x y\n", vec!["e", "x", "y"]),
        ("    entrypoint: n\n", vec!["n"]),
        ("    entrypoint: n\n    command: x\n", vec!["n", "x"]),
        ("    entrypoint: []\n    command: x\n", vec!["x"]),
        ("    command: []\n", vec!["e"]),
    ] {
        let (service, recipe, _) = built(lines);
        assert_eq!(run_command(&service, Some(&recipe)), expected, "{lines}");
    }
}

#[test]
fn the_image_fills_in_what_the_file_does_not_say() {
    let (service, recipe, found) = built("    ports: ['80:8000']\n    environment: {B: own}\n");
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(service.expose, [(81, PortKind::Tcp)]);
    assert_eq!(service.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(service.healthcheck.as_ref().unwrap().interval.as_secs(), 7);
    let env = environment(&service, Some(&recipe));
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("image", "own"));
    assert_eq!(working_dir(&service, Some(&recipe), Path::new("/srv/shop")), Path::new("/app"));
    let (service, _, _) = built("    healthcheck: {retries: 9}\n    working_dir: /x\n");
    let check = service.healthcheck.unwrap();
    assert_eq!((check.retries, check.interval.as_secs()), (9, 7));
    assert_eq!(check.test, Test::Shell("check".into()));
    let (service, _, _) = built("    healthcheck: {disable: true}\n");
    assert_eq!(service.healthcheck.unwrap().test, Test::None);
}

#[test]
fn a_healthcheck_of_the_dockerfile_counts() {
    let text = "services:\n  a:\n    build: ./app\n  b:\n    command: x\n    depends_on: {a: {condition: service_healthy}}\n";
    let files =
        Memory::default().with("compose.yaml", text).with("/srv/shop/app/Dockerfile", PYTHON);
    assert_eq!(spec::load(&options(), &files).unwrap().findings, []);
    let none = files.with("/srv/shop/app/Dockerfile", "FROM a\nCMD x\nCOPY ..");
    let found = spec::load(&options(), &none).unwrap_err();
    assert_eq!(brief(&found), ["error dockerfile-syntax 3", "error dependency-no-healthcheck 6"]);
    assert_eq!(found[0].problem.place.as_ref().unwrap().file, Path::new("app/Dockerfile"));
}

#[test]
fn inline_and_native() {
    let text = "services:\n  a:\n    build:\n      context: .\n      dockerfile_inline: |\n        FROM x\n        CMD y\n";
    let app = crate::app(text);
    assert!(app.services["a"].uses_build());
    crate::life::same_after_writing(&app);
    let native = crate::app("services: {a: {build: ., command: x, x-mainspring: {native: true}}}");
    assert!(!native.services["a"].uses_build(), "its Dockerfile is not even read");
    let no_command = crate::findings(&text.replace("CMD y", "USER y"));
    assert_eq!(brief(&no_command), ["error nothing-to-run 2"]);
}

#[test]
fn zeros_of_a_healthcheck_are_its_defaults() {
    let flags = "--interval=0s --timeout=0 --start-interval=0s --retries=0";
    let check = recipe(&format!("FROM a\nHEALTHCHECK {flags} CMD x")).healthcheck.unwrap();
    let test = spec::model::Test::Shell("x".to_owned());
    assert_eq!(check, spec::model::Healthcheck { test, ..Default::default() });
}
