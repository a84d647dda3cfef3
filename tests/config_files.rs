//! Configuration files are in every backup, wherever they lie, and go back there when that is asked for.

use crate::support::{Installation, directory, file, in_its_place, output};
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

/// Lays the configuration of a server out as on Debian, and some of it further away. Returns its `postgresql.conf`.
fn spread(data: &Path, place: &Path) -> String {
    let (etc, more) = (place.join("etc/main"), place.join("etc/more"));
    for directory in [&etc.join("conf.d"), &etc.join("hba.d"), &more] {
        fs::create_dir_all(directory).unwrap();
    }
    output(Command::new(file("tests/tools/certificates.sh")).arg(&more));
    for name in ["pg_hba.conf", "pg_ident.conf"] {
        fs::rename(data.join(name), etc.join(name)).unwrap();
    }
    let hba = fs::read_to_string(etc.join("pg_hba.conf")).unwrap();
    fs::write(etc.join("pg_hba.conf"), format!("local @databases.list all trust\n{hba}")).unwrap();
    fs::write(etc.join("databases.list"), "app shop\n").unwrap();
    fs::write(more.join("team.conf"), "work_mem = '33MB'\n").unwrap();
    fs::write(more.join("odd name.conf"), "temp_buffers = '9MB'\n").unwrap();
    fs::write(etc.join("conf.d/10-mine.conf"), "include_if_exists '../../more/odd name.conf'\n").unwrap();
    symlink(more.join("team.conf"), etc.join("conf.d/20-team.conf")).unwrap();
    fs::write(etc.join("conf.d/not-read.txt"), "nonsense\n").unwrap();
    // One that the server finds in its data directory, and its backup does not.
    fs::write(more.join("led-to.conf"), "maintenance_work_mem = '77MB'\n").unwrap();
    symlink(more.join("led-to.conf"), data.join("linked.conf")).unwrap();
    let original = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    fs::remove_file(data.join("postgresql.conf")).unwrap();
    let (etc, more, data) = (etc.display(), more.display(), data.display());
    let text = format!(
        "{original}\ndata_directory = '{data}'\nhba_file = '{etc}/pg_hba.conf'\nident_file = '{etc}/pg_ident.conf'\ninclude_dir 'conf.d'\n\
         include '{data}/linked.conf'\ninclude_if_exists 'none.conf'\nssl = on\nssl_cert_file = '{more}/cert.pem'\n\
         ssl_key_file = '{more}/key.pem'\n"
    );
    fs::write(format!("{etc}/postgresql.conf"), text).unwrap();
    format!("{etc}/postgresql.conf")
}

/// The names in the volume of configuration of the only backup of a repository; of one that is sealed by this key.
fn members(repository: &Path, key: Option<&Path>) -> String {
    let script = "set -e; cd \"$0\"/main/*/backups/*/; case $(echo config.tar*) in *.age) age -d -i \"$1\" config.tar.* ;; *) cat \
                  config.tar.* ;; esac | zstd -dc | tar -t";
    output(Command::new("sh").args(["-c", script]).arg(repository).args(key))
}

fn restore(installation: &Installation, data: &Path, repository: &str, more: &[&str]) -> String {
    let to = data.to_str().unwrap();
    let common = ["restore", "physical", "--in-place", "--force", "--repository", repository, "--to", to];
    installation.run(&[&common[..], more].concat())
}

/// Reference 000 (its lines by id): 000-P2.
#[test]
fn configuration_files_elsewhere_are_in_the_backup_and_go_back_when_asked() {
    let directory = directory();
    let place = directory.path();
    let key = place.join("key");
    output(Command::new("age-keygen").arg("-o").arg(&key).stderr(Stdio::null()));
    let public = output(Command::new("age-keygen").arg("-y").arg(&key));
    let sealed = format!(
        "[repositories.sealed]\ntype = \"local\"\npath = \"{{dir}}/sealed\"\nencrypt-to = [\"{}\"]\nidentity-file = \"{}\"\n",
        public.trim(),
        key.display()
    );
    let (cluster, installation) = in_its_place(place, &sealed);
    let text = fs::read_to_string(place.join("pgbosun.toml")).unwrap();
    fs::write(place.join("pgbosun.toml"), text.replace("[\"local\"]", "[\"local\", \"sealed\"]")).unwrap();
    cluster.stop();
    let config = spread(&cluster.data, place);
    let cluster = cluster.with_options(&format!("-c config_file={config}"));
    cluster.up();
    let all = "select string_agg(setting, ' ' order by name) from pg_settings where name in \
               ('work_mem', 'temp_buffers', 'maintenance_work_mem', 'ssl')";
    let as_it_was = cluster.sql(all);
    assert_eq!(as_it_was, "78848 on 1152 33792");
    installation.run(&["backup", "create"]);

    let (plain, sealed) = (members(&place.join("repo"), None), members(&place.join("sealed"), Some(&key)));
    let within = format!("files{}", place.display());
    for name in [
        "postgresql.conf".to_owned(),
        "pg_hba.conf".to_owned(),
        "pg_ident.conf".to_owned(),
        "data/linked.conf".to_owned(),
        format!("{within}/etc/main/postgresql.conf"),
        format!("{within}/etc/main/pg_hba.conf"),
        format!("{within}/etc/main/databases.list"),
        format!("{within}/etc/main/conf.d/10-mine.conf"),
        format!("{within}/etc/main/conf.d/20-team.conf"),
        format!("{within}/etc/more/odd name.conf"),
    ] {
        assert!(plain.lines().any(|line| line == name) && sealed.lines().any(|line| line == name), "{name}\n{plain}");
    }
    // A key goes only where it is encrypted, and a certificate without its key is put nowhere.
    assert!(sealed.contains(&format!("{within}/etc/more/cert.pem")), "{sealed}");
    assert!(plain.contains(&format!("certificates{}/etc/more/cert.pem", place.display())), "{plain}");
    assert!(
        sealed.contains("key.pem") && !plain.contains("key.pem") && !plain.contains("not-read"),
        "{plain}\n{sealed}"
    );
    installation.run(&["backup", "verify"]);
    cluster.stop();

    // Beside the original nothing of its configuration is changed.
    let copy = place.join("copy");
    let done = installation.try_run(&["restore", "physical", "--to", copy.to_str().unwrap(), "--config-files"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("--config-files needs --in-place"), "{done:?}");
    // Not asked for: what differs is told and stays.
    fs::write(place.join("etc/more/team.conf"), "work_mem = '44MB'\n").unwrap();
    let said = restore(&installation, &cluster.data, "sealed", &[]);
    assert!(said.contains("--config-files restores them") && said.contains("conf.d/20-team.conf"), "{said}");
    assert!(!said.contains("10-mine"), "{said}");
    assert_eq!(fs::read_to_string(place.join("etc/more/team.conf")).unwrap(), "work_mem = '44MB'\n");

    // Asked for, on a machine that has nothing left of it, and where something cannot be written.
    fs::rename(place.join("etc"), place.join("gone")).unwrap();
    fs::create_dir_all(place.join("etc/main/pg_ident.conf")).unwrap();
    let said = restore(&installation, &cluster.data, "sealed", &["--config-files"]);
    assert!(said.contains("pg_ident.conf: NOT restored, copy it from pgbosun-config/files/"), "{said}");
    assert!(said.contains("linked.conf: restored as a file") && said.contains("etc/more/key.pem: restored"), "{said}");
    fs::remove_dir(place.join("etc/main/pg_ident.conf")).unwrap();
    let said = restore(&installation, &cluster.data, "sealed", &["--config-files"]);
    assert!(said.contains("etc/main/pg_ident.conf: restored") && !said.contains("key.pem"), "{said}");
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql(all), as_it_was);
    // No key stays where the next backup takes it from.
    let kept = output(Command::new("find").arg(cluster.data.join("pgbosun-config")).args(["-type", "f"]));
    assert!(kept.contains("20-team.conf") && !kept.contains("key.pem"), "{kept}");
    installation.run(&["backup", "create"]);
    installation.run(&["restore-test"]);
}

#[test]
fn a_role_that_may_not_read_them_has_them_read_here_and_a_backup_goes_on_without_them() {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "");
    cluster.stop();
    let config = spread(&cluster.data, directory.path());
    let cluster = cluster.with_options(&format!("-c config_file={config}"));
    cluster.up();
    cluster.sql("create role carer login replication in role pg_monitor");
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    fs::write(directory.path().join("pgbosun.toml"), text.replace("user=postgres", "user=carer")).unwrap();
    let said = |granted: &str| {
        if !granted.is_empty() {
            cluster.sql(granted);
        }
        let mut command = installation.command(&["backup", "create"]);
        let done = command.env("PGBOSUN_LOG", "info").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
    };
    let without = said("");
    assert!(without.contains("configuration file not backed up"), "{without}");
    // Backups are listed from the oldest.
    let newest = || {
        let script = "cd \"$0\"/main/*/backups/; cd $(ls | tail -1); [ ! -e config.tar.zst ] || zstd -dc config.tar.zst | tar -t";
        output(Command::new("sh").args(["-c", script]).arg(directory.path().join("repo")))
    };
    assert_eq!(newest(), "");
    // It may read what tells that the server is here, and no more.
    let with = said(
        "grant execute on function pg_read_file(text), pg_backup_start(text, boolean), pg_backup_stop(boolean) to carer",
    );
    assert!(!with.contains("configuration file not backed up"), "{with}");
    assert!(newest().contains("etc/more/odd name.conf"), "{}", newest());
}
