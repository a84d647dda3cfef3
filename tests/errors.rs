//! An error stays what it is on its way to whoever reads it, or decides by it.

use crate::support::{Cluster, Installation, directory};
use std::{fs, os::unix::fs::PermissionsExt};

/// Of two servers each is named with its reason, and a further try is made where one of the reasons may pass.
#[test]
fn of_two_servers_each_says_why_it_will_not_do_and_what_may_pass_is_tried_again() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.sql("create role bosun login superuser password 'right'");
    let hba = "local all bosun scram-sha-256\nlocal replication bosun scram-sha-256\nlocal all all trust\n";
    fs::write(cluster.data.join("pg_hba.conf"), hba).unwrap();
    cluster.sql("select pg_reload_conf()");
    let secret = directory.path().join("secret");
    let write = |password: &str| {
        fs::write(&secret, password).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("wrong");
    // Another way to the same server, and one where nobody listens.
    let place = directory.path().display();
    std::os::unix::fs::symlink(directory.path(), directory.path().join("same")).unwrap();
    fs::create_dir(directory.path().join("nobody")).unwrap();
    let of = |other: &str| {
        format!(
            "[clusters.main]\nconnection = \"host={place},{place}/{other} port=5432,5432 user=bosun dbname=postgres\"\n\
             password-file = \"{{dir}}/secret\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
             [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretries = 1\nretry-delay = \"100ms\"\n"
        )
    };
    let installation = Installation::new(directory.path(), &of("nobody"));
    let failed = || {
        let done = installation.try_run(&["job", "run", "full"]);
        assert_eq!(done.status.code(), Some(1));
        let run = installation.history("full").remove(0);
        (run["error"].as_str().unwrap().to_owned(), run["attempts"].clone())
    };
    let refuses = |host: &str, error: &str| {
        let told = error.split(&format!("{place}{host}:5432: connect to ")).nth(1).unwrap_or_else(|| panic!("{error}"));
        assert!(told.split("; ").next().unwrap().contains("password authentication failed"), "{error}");
    };
    let (error, attempts) = failed();
    refuses("", &error);
    assert!(error.contains(&format!("; {place}/nobody:5432: connect to ")), "{error}");
    assert_eq!(attempts, 2, "the one that is down may come up: {error}");
    // A command says the same.
    let done = installation.try_run(&["backup", "create"]);
    let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.code() == Some(1) && words.contains(&error.replace(" (tried 2 times)", "")), "{words}");

    installation.configure(&of("same"));
    let (error, attempts) = failed();
    refuses("", &error);
    refuses("/same", &error);
    assert_eq!(attempts, 1, "no further try makes a password right: {error}");
    write("right");
    installation.run(&["backup", "create"]);

    // From the environment a secret is taken as it is, whatever TOML would make of it.
    installation.configure(&of("same").replace("password-file = \"{dir}/secret\"\n", ""));
    for password in ["0123", "\"quoted\"", " lead", "true", "{a=1}"] {
        cluster.sql(&format!("alter role bosun password '{password}'"));
        let done =
            installation.command(&["backup", "create"]).env("PGBOSUN_CLUSTERS__MAIN__PASSWORD", password).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{password}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
