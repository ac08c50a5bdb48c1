//! Edits apply as they are saved.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::Duration;

use super::directory::{Watched, service};

#[test]
fn files_come_change_and_go() {
    let web = service("web", "10.96.0.1");
    let mut watched = Watched::new(&[("web.yaml", &web)]);
    watched.until_services(&["web"]);

    watched.write("api.yaml", &service("api", "10.96.0.2"));
    watched.until_services(&["api", "web"]);

    watched.write("web.yaml", &web.replace("10.96.0.1", "10.96.0.9"));
    watched.until("the address has changed", |now| {
        now.service("web").cluster_ips[0].to_string() == "10.96.0.9"
    });

    fs::remove_file(watched.path("api.yaml")).unwrap();
    watched.until_services(&["web"]);
}

#[test]
fn only_changed_objects_are_delivered() {
    let two = format!("{}---\n{}", service("a", "10.96.0.1"), service("b", "10.96.0.2"));
    let mut watched = Watched::new(&[("two.yaml", &two)]);
    watched.write("two.yaml", &two.replace("10.96.0.2", "10.96.0.3"));
    assert_eq!(watched.settle(), 1);
    watched.write("two.yaml", &two.replace("10.96.0.2", "10.96.0.3"));
    watched.write("notes.txt", "nothing to us");
    assert_eq!(watched.settle(), 0);
}

#[test]
fn a_file_that_replaces_another_is_an_edit() {
    let mut watched = Watched::new(&[("web.yaml", &service("web", "10.96.0.1"))]);
    for number in 2..6 {
        let ip = format!("10.96.0.{number}");
        watched.write(".web.yaml.new", &service("web", &ip));
        fs::rename(watched.path(".web.yaml.new"), watched.path("web.yaml")).unwrap();
        watched.until("the address has changed", |now| {
            now.service("web").cluster_ips[0].to_string() == ip
        });
    }
    fs::rename(watched.path("web.yaml"), watched.path("web.yaml~")).unwrap();
    watched.until_services(&[]);
}

#[test]
fn a_half_written_file_is_not_read() {
    let (a, b) = (service("a", "10.96.0.1"), service("b", "10.96.0.2"));
    let mut watched = Watched::new(&[("two.yaml", &format!("{a}---\n{b}"))]);
    watched.until_services(&["a", "b"]);
    // Truncated, then written slowly; and another file is saved meanwhile.
    let mut file = File::create(watched.path("two.yaml")).unwrap();
    sleep(Duration::from_millis(50));
    file.write_all(a.as_bytes()).unwrap();
    watched.write("c.yaml", &service("c", "10.96.0.3"));
    watched.until("the other one is told", |now| now.services.len() == 3);
    sleep(Duration::from_millis(50));
    file.write_all(format!("---\n{b}").as_bytes()).unwrap();
    drop(file);
    assert_eq!(watched.settle(), 0);
    assert_eq!(watched.now.service_names(), ["a", "b", "c"]);
}

#[test]
fn a_broken_file_keeps_its_last_good_content() {
    let web = service("web", "10.96.0.1");
    let mut watched = Watched::new(&[("web.yaml", &web)]);
    for broken in ["}{", "kind: Service", "hello", &web.replace("80", "eighty")] {
        watched.write("web.yaml", broken);
        watched.write("other.yaml", &service("other", "10.96.0.2"));
        watched.until_services(&["other", "web"]);
        fs::remove_file(watched.path("other.yaml")).unwrap();
        watched.until_services(&["web"]);
    }
    watched.write("web.yaml", &web.replace("10.96.0.1", "10.96.0.9"));
    watched.until("it is good again", |now| {
        now.service("web").cluster_ips[0].to_string() == "10.96.0.9"
    });
    watched.write("web.yaml", "");
    watched.until_services(&[]);
}

#[test]
fn a_file_hidden_by_another_comes_back() {
    let (first, second) = (service("web", "10.96.0.1"), service("web", "10.96.0.2"));
    let mut watched = Watched::new(&[("a.yaml", &first), ("b.yaml", &second)]);
    watched.until_services(&["web"]);
    assert_eq!(watched.now.service("web").cluster_ips[0].to_string(), "10.96.0.2");
    fs::remove_file(watched.path("b.yaml")).unwrap();
    watched.until("the other counts", |now| {
        now.service("web").cluster_ips[0].to_string() == "10.96.0.1"
    });
}

#[test]
fn directories_come_and_go() {
    let mut watched = Watched::new(&[]);
    fs::create_dir_all(watched.path("a/b")).unwrap();
    watched.write("a/b/web.yaml", &service("web", "10.96.0.1"));
    watched.until_services(&["web"]);
    watched.write("a/b/api.yaml", &service("api", "10.96.0.2"));
    watched.until_services(&["api", "web"]);
    // One that is moved in as a whole.
    let aside = tempfile::tempdir_in(watched.folder.path().parent().unwrap()).unwrap();
    fs::create_dir(aside.path().join("c")).unwrap();
    fs::write(aside.path().join("c/dns.yaml"), service("dns", "10.96.0.10")).unwrap();
    fs::rename(aside.path().join("c"), watched.path("c")).unwrap();
    watched.until_services(&["api", "dns", "web"]);
    watched.write("c/dns.yaml", &service("dns2", "10.96.0.10"));
    watched.until_services(&["api", "dns2", "web"]);
    fs::remove_dir_all(watched.path("a")).unwrap();
    watched.until_services(&["dns2"]);
}

#[test]
fn a_mounted_config_map_is_swapped_by_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, ip: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("web.yaml"), service("web", ip)).unwrap();
        symlink(name, folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    version("..2026_01", "10.96.0.1");
    symlink("..data/web.yaml", folder.path().join("web.yaml")).unwrap();
    let path = folder.path().to_owned();
    let mut watched = Watched::of(folder);
    watched.until_services(&["web"]);
    fs::create_dir(path.join("..2026_02")).unwrap();
    fs::write(path.join("..2026_02/web.yaml"), service("web", "10.96.0.2")).unwrap();
    symlink("..2026_02", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    fs::remove_dir_all(path.join("..2026_01")).unwrap();
    watched.until("the address has changed", |now| {
        now.service("web").cluster_ips[0].to_string() == "10.96.0.2"
    });
}

#[test]
fn links_to_files_count_from_the_start() {
    let mut watched = Watched::new(&[]);
    let aside = tempfile::tempdir_in(watched.folder.path().parent().unwrap()).unwrap();
    let (soft, hard) = (aside.path().join("soft.yaml"), aside.path().join("hard.yaml"));
    fs::write(&soft, service("soft", "10.96.0.1")).unwrap();
    fs::write(&hard, service("hard", "10.96.0.2")).unwrap();
    symlink(&soft, watched.path("soft.yaml")).unwrap();
    fs::hard_link(&hard, watched.path("hard.yaml")).unwrap();
    watched.until_services(&["hard", "soft"]);
}

/// Written by another name, as on another machine that has the same file system.
#[test]
fn changes_without_notification_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (seen, elsewhere) = (folder.path().join("seen"), folder.path().join("elsewhere"));
    fs::create_dir(&seen).unwrap();
    fs::write(&elsewhere, service("a", "10.96.0.1")).unwrap();
    fs::hard_link(&elsewhere, seen.join("a.yaml")).unwrap();
    let mut watched = Watched::under(folder, "seen");
    watched.until_services(&["a"]);
    fs::write(&elsewhere, service("b", "10.96.0.1")).unwrap();
    watched.until_services(&["b"]);
}

#[test]
fn a_directory_that_vanishes_keeps_its_content_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("manifests");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("web.yaml"), service("web", "10.96.0.1")).unwrap();
    let mut watched = Watched::under(folder, "manifests");
    watched.until_services(&["web"]);
    fs::remove_file(directory.join("web.yaml")).unwrap();
    watched.until_services(&[]);
    fs::write(directory.join("web.yaml"), service("web", "10.96.0.1")).unwrap();
    watched.until_services(&["web"]);
    let aside = watched.path("aside");
    fs::rename(&directory, &aside).unwrap();
    assert_eq!(watched.settle(), 0);
    fs::write(aside.join("api.yaml"), service("api", "10.96.0.2")).unwrap();
    fs::rename(&aside, &directory).unwrap();
    watched.until_services(&["api", "web"]);
    fs::write(directory.join("dns.yaml"), service("dns", "10.96.0.10")).unwrap();
    watched.until_services(&["api", "dns", "web"]);
}
