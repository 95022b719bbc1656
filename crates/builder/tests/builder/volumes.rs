//! What an image has where a volume is mounted.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[("a_new_volume_begins_as_the_image", begins_as_the_image)];

fn begins_as_the_image() {
    let bench = Bench::new(
        "FROM debian\nRUN mkdir -p /data/deep && echo a > /data/a && echo b > /data/deep/b && \
         ln -s a /data/link && chown -R 7:8 /data && chmod 2750 /data\n\
         RUN rm /data/a && echo c > /data/c && mkdir /empty && chown 9 /empty && ln -s /data /to\n\
         VOLUME /data /empty\n",
    );
    let (image, _) = bench.build();
    assert_eq!(image.recipe.volumes, ["/data", "/empty"].map(std::path::PathBuf::from));
    let folder = tempfile::tempdir_in(bench.folder.path()).unwrap();
    let fill = |name: &str, target: &str| {
        let volume = folder.path().join("volumes").join(name);
        bench.builder.fill(&image.layers, target.as_ref(), &volume).unwrap();
        volume
    };
    let names = |volume: &std::path::Path| {
        let entries = fs::read_dir(volume).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let data = fill("data", "/data");
    assert_eq!(names(&data), ["c", "deep", "link"], "what a later layer removed is not there");
    assert_eq!(fs::read_to_string(data.join("deep/b")).unwrap(), "b\n");
    let of = fs::metadata(&data).unwrap();
    assert_eq!((of.uid(), of.gid(), of.mode() & 0o7777), (7, 8, 0o2750));
    let empty = fill("empty", "/empty");
    assert_eq!((names(&empty).len(), fs::metadata(&empty).unwrap().uid()), (0, 9));
    // Whatever is in one stays, and one that is there stays the same folder.
    fs::write(data.join("c"), "mine").unwrap();
    fill("data", "/data");
    assert_eq!(fs::read_to_string(data.join("c")).unwrap(), "mine");
    let before = fs::metadata(&empty).unwrap().ino();
    fill("empty", "/to");
    assert_eq!(names(&empty), ["c", "deep", "link"], "a symlink leads to what is in the image");
    assert_eq!(fs::metadata(&empty).unwrap().ino(), before);
    // What only the host has there is not the image's.
    assert!(!fill("etc", "/usr/share/doc").exists());
    assert!(!folder.path().join("volumes/.empty.new").exists());
}
