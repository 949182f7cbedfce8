//! Configurations as files: where paths begin, what is watched, what cannot be read.

use std::fs;
use std::path::{Path, PathBuf};

use asgi_relay::gateway::config::{Overrides, load};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A folder that is gone at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-file-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, octets: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, octets).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn told(path: &Path) -> String {
    load(path, &Overrides::default()).unwrap_err().to_string()
}

#[test]
fn paths_begin_at_the_folder_of_the_file_and_are_told_for_watching() {
    let folder = Folder::new("paths");
    let pem = folder.write(
        "both.pem",
        fs::read(super::folder().join("ssl/both.pem")).unwrap(),
    );
    let authorities = folder.0.join("authorities");
    fs::create_dir_all(&authorities).unwrap();
    let one = folder.write("authorities/one.pem", fs::read(&pem).unwrap());
    let file = folder.write(
        "gateway.yaml",
        "ssl: {enabled: true, cert_file: both.pem, key_file: ./both.pem}\n\
         routes: [{targets: https://h, verify: both.pem},\n  \
         {path: /a, targets: https://h, verify: authorities}]\n",
    );
    let loaded = load(&file, &Overrides::default()).unwrap();
    assert_eq!(loaded.files, [authorities, one, pem]);
}

#[test]
fn a_file_with_a_mistake_tells_what_it_names_all_the_same() {
    let folder = Folder::new("named");
    let text = folder.write("text.pem", "x");
    let file = folder.write(
        "gateway.yaml",
        "ssl: {enabled: true, cert_file: later.pem, key_file: text.pem}\nroutes: []\n",
    );
    let refused = load(&file, &Overrides::default()).unwrap_err();
    assert_eq!(refused.files(), [folder.0.join("later.pem"), text]);
    assert!(
        load(&folder.0, &Overrides::default())
            .unwrap_err()
            .files()
            .is_empty()
    );
}

#[test]
fn what_cannot_be_read_is_told_with_the_name_of_the_file() {
    let folder = Folder::new("unreadable");
    let missing = folder.0.join("missing.yaml");
    let name = missing.display();
    assert!(told(&missing).starts_with(&format!("{name}: cannot be read: ")));
    assert!(told(&folder.0).contains("cannot be read"));
    let latin = folder.write("latin.yaml", b"routes: gr\xfc\xdfe");
    assert!(told(&latin).ends_with("it is not UTF-8 from octet 10 on"));
    let large = folder.write("large.yaml", vec![b' '; (1 << 20) + 5]);
    assert!(told(&large).contains("more than 1048576 octets"));
}

#[test]
fn what_is_no_file_is_not_opened() {
    let folder = Folder::new("pipe");
    let pipe = folder.0.join("cert.pem");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let file = folder.write(
        "gateway.yaml",
        "ssl: {enabled: true, cert_file: cert.pem, key_file: cert.pem}\nroutes: [{targets: http://h}]\n",
    );
    let told = told(&file);
    assert!(
        told.contains(
            "ssl.cert_file: found the text \"cert.pem\", which cannot be read: it is no file"
        ),
        "{told}"
    );
}
