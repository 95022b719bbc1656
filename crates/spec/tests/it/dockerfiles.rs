//! Dockerfiles, as recipes and as part of a service.

use std::collections::BTreeMap;
use std::path::Path;

use spec::dockerfile::{ImageRecipe, environment, final_stage, parse, run_command, working_dir};
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

fn errors(text: &str) -> Vec<String> {
    let made = parse(text, Path::new("Dockerfile"), 0)
        .and_then(|f| final_stage(&f, None, &BTreeMap::new()));
    brief(&made.unwrap_err())
}

#[test]
fn a_common_one() {
    let r = recipe(
        "# syntax=docker/dockerfile:1\nFROM python:3.12-slim\n\nWORKDIR /app\nENV PYTHONUNBUFFERED=1 \\\n    \
         # why\n\n    MODE=\"a b\" PATH=/venv/bin:$PATH\nCOPY requirements.txt .\nRUN pip install \\\n  -r requirements.txt\n\
         COPY --chown=app:app . .\nEXPOSE 8000 9000/udp\nUSER app\nHEALTHCHECK --interval=5s --retries=2 CMD curl -f localhost\n\
         STOPSIGNAL INT\nLABEL a=b \"c d\"='e f'\nVOLUME /data cache\nCMD [\"python\", \"app.py\"]\n",
    );
    assert_eq!(r.base, "python:3.12-slim");
    assert_eq!(r.workdir, Path::new("/app"));
    assert_eq!(r.env["MODE"], "a b");
    assert!(r.env["PATH"].starts_with("/venv/bin:/usr/local/sbin:"), "{}", r.env["PATH"]);
    assert_eq!(r.env.len(), 3);
    assert_eq!(r.copies.len(), 2);
    assert_eq!((r.copies[0].dest.as_path(), r.copies[0].dest_is_dir), (Path::new("/app"), true));
    assert_eq!(r.copies[1].chown.as_deref(), Some("app:app"));
    assert_eq!(r.copies[1].sources, ["."]);
    assert_eq!(r.expose, [(8000, PortKind::Tcp), (9000, PortKind::Udp)]);
    assert_eq!(r.user.as_deref(), Some("app"));
    assert_eq!(r.stop_signal.as_deref(), Some("SIGINT"));
    let check = r.healthcheck.unwrap();
    assert_eq!((check.test, check.retries), (Test::Shell("curl -f localhost".into()), 2));
    assert_eq!(r.labels["c d"], "e f");
    assert_eq!(r.volumes, [Path::new("/data"), Path::new("/app/cache")]);
    assert_eq!(r.cmd.unwrap(), ["python", "app.py"]);
    assert_eq!(r.skipped_runs.len(), 1);
    assert_eq!(r.skipped_runs[0].line, 10);
    assert_eq!(r.skipped_runs[0].text, "pip install -r requirements.txt");
    assert_eq!(brief(&r.findings), ["warning run-skipped 10"]);
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
    assert_eq!(r.copies[0].from.as_deref(), Some("build"));
    assert_eq!(brief(&r.findings), ["warning copy-from-stage 14"]);
    assert!(r.skipped_runs.is_empty(), "another stage's steps are not this one's");
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
    let windows = recipe("# escape=`\nFROM a\nENV A=C:\\dir B=`$X\\\nRUN a `\n b\n");
    assert_eq!(windows.env["A"], "C:\\dir");
    assert_eq!(windows.env["B"], "$X\\");
    assert_eq!(windows.skipped_runs[0].text, "a b");
}

#[test]
fn heredocs() {
    let r = recipe(
        "FROM a\nENV X=x\nRUN <<EOF\napt install\nFROM nothing\nEOF\nCOPY <<a.txt <<-'b.txt' /etc/\nhello $X\na.txt\n\
         \tkeep $X\n\tb.txt\nCMD [\"c\"]\n",
    );
    assert_eq!(r.skipped_runs[0].text, "<<EOF apt install FROM nothing");
    let inline: Vec<_> =
        r.copies[0].inline.iter().map(|f| (f.name.as_str(), f.text.as_str())).collect();
    assert_eq!(inline, [("a.txt", "hello x\n"), ("b.txt", "keep $X\n")]);
    assert!(r.copies[0].sources.is_empty() && r.copies[0].dest_is_dir);
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
        ("FROM a\nCOPY --frm=b x y", vec!["error dockerfile-syntax 2"]),
    ] {
        assert_eq!(errors(text), expected, "{text}");
    }
    let remote = recipe("FROM a\nADD https://x/y.tgz /y\nONBUILD RUN x\nCMD x");
    assert_eq!(brief(&remote.findings), ["warning copy-remote 2", "warning onbuild-ignored 3"]);
    assert!(remote.copies[0].sources.is_empty() && remote.copies[0].unpack);
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
