//! Class paths of Java programs from their registry.

use std::path::Path;

use anyhow::Result;

use crate::run;

/// Apache Kafka's own broker and tools.
pub(crate) const KAFKA: &str = "4.2.0";

/// The class path of Kafka's broker and tools, made ready in a folder.
pub(crate) fn kafka(dir: &Path) -> Result<String> {
    class_path(dir, &[("kafka_2.13", KAFKA), ("kafka-tools", KAFKA)])
}

/// The class path of some artifacts of Apache Kafka, made ready in a folder, where `path.txt` has
/// it afterwards.
pub(crate) fn class_path(dir: &Path, artifacts: &[(&str, &str)]) -> Result<String> {
    run::need("mvn", &["maven", "default-jdk-headless"])?;
    std::fs::create_dir_all(dir)?;
    let path = dir.join("path.txt");
    if !path.exists() {
        let dependency = |(group, name, version): (&str, &str, &str)| {
            format!(
                "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
            )
        };
        let own = artifacts.iter().map(|(name, version)| ("org.apache.kafka", *name, *version));
        // Without one, each program begins with a complaint about it.
        let all = own.chain([("org.slf4j", "slf4j-nop", "1.7.36")]);
        let pom = format!(
            "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
             <groupId>x</groupId><artifactId>x</artifactId><version>1</version><dependencies>{}</dependencies></project>",
            all.map(dependency).collect::<String>()
        );
        std::fs::write(dir.join("pom.xml"), pom)?;
        let words = ["-q", "dependency:build-classpath", "-Dmdep.outputFile=path.txt"];
        run::run_in(dir, "mvn", &words)?;
    }
    Ok(std::fs::read_to_string(path)?)
}
