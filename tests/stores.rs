//! The places where objects can be kept: one suite for all of them, faults under all of them, and backups over S3 whose
//! store is killed meanwhile.

use crate::support::{Cluster, Installation, MAIL, directory, file, output, seconds, wait_until};
use async_trait::async_trait;
use bytes::Bytes;
use pgbosun_core::config;
use pgbosun_repository::{
    BackupRef, Destinations, Error, ObjectKind, ObjectWriter, Repository, Storage, VolumeWriter, local_repository,
    read_object,
    storage::{self, Stat},
    write_object,
};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};
use tokio::io::AsyncReadExt;

/// A store that runs for one test.
pub struct Store {
    directory: PathBuf,
    kind: &'static str,
    port: u16,
    process: Option<Child>,
}

/// Eight ports in a row that nobody listens on.
fn ports() -> u16 {
    let free = |port: u16| (0..8).all(|offset| TcpListener::bind(("127.0.0.1", port + offset)).is_ok());
    let start = 20000 + (std::process::id() % 2000) as u16 * 8;
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = start.wrapping_add(step * 8) % 30000 + 20000;
        if free(port) {
            return port;
        }
    }
}

impl Store {
    pub fn start(directory: &Path, kind: &'static str) -> Self {
        let mut store = Self { directory: directory.join(kind), kind, port: ports(), process: None };
        store.up();
        store
    }

    fn up(&mut self) {
        let log = fs::File::create(self.directory.with_extension("log")).unwrap();
        let mut command = Command::new("bash");
        command.arg(file("tests/tools/store-run.sh")).arg(self.kind).arg(&self.directory).arg(self.port.to_string());
        let ready = self.directory.join("ready");
        let _ = fs::remove_file(&ready);
        self.process = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        wait_until("the store answers", seconds(60), || ready.exists());
    }

    /// Where its share is mounted.
    pub fn mount(&self) -> PathBuf {
        self.directory.join("mount")
    }

    /// Stops its process, or lets it go on.
    pub fn signal(&self, signal: &str) {
        if let Some(process) = &self.process {
            let _ = Command::new("kill").arg(signal).arg(process.id().to_string()).status();
        }
    }

    fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").arg("-TERM").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
    }

    pub fn options(&self) -> config::Repository {
        let parts = if self.kind == "sftp" { "" } else { "part-size = \"5MiB\"\n" };
        configured(&self.directory, &format!("{}{parts}request-retries = 2\n", self.section("one")))
    }

    /// The directory of a repository on this machine, where it is in one.
    pub fn root(&self) -> PathBuf {
        self.directory.join("data/repository")
    }

    /// A repository there, as a section of a configuration.
    pub fn section(&self, name: &str) -> String {
        let secret = self.directory.join("secret");
        fs::write(&secret, "pgbosun-test-secret\n").unwrap();
        output(Command::new("chmod").arg("600").arg(&secret));
        let dir = self.directory.display();
        let port = self.port;
        match self.kind {
            "sftp" => format!(
                "[repositories.{name}]\ntype = \"sftp\"\nhost = \"127.0.0.1\"\nport = {port}\npath = \"{dir}/data/repository\"\n\
                 key-file = \"{dir}/id_ed25519\"\nknown-hosts-file = \"{dir}/known_hosts\"\n"
            ),
            _ => format!(
                "[repositories.{name}]\ntype = \"s3\"\nbucket = \"backups\"\nprefix = \"pg\"\nendpoint = \"https://127.0.0.1:{port}\"\n\
                 ca-file = \"{dir}/ca.pem\"\naccess-key = \"pgbosun-test\"\nsecret-file = \"{}\"\n",
                secret.display()
            ),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.down();
    }
}

/// The repository that a section describes.
fn configured(directory: &Path, section: &str) -> config::Repository {
    let (file, stores) = (directory.join("one.toml"), pgbosun_repository::stores());
    fs::write(&file, section).unwrap();
    let registry = config::Registry { stores: &stores, ..config::Registry::default() };
    let loaded = config::load(&file, &registry).map_err(|problems| problems.to_string()).unwrap();
    loaded.config.repositories.into_values().next().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    // As the program's first line does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn read(storage: &dyn Storage, key: &str) -> Vec<u8> {
    read_object(storage, key).await.unwrap()
}

/// A repository of which nothing is remembered.
fn open(name: &str, options: &config::Repository) -> Repository {
    Repository::on(name, &options.common, storage::open(name, options, None).unwrap())
}

/// What every place must do.
async fn conforms(storage: &dyn Storage) {
    assert!(storage.list("").await.unwrap().is_empty());
    assert_eq!(storage.stat("a/b/object").await.unwrap(), None);
    assert!(storage.names("nowhere").await.unwrap().is_empty());
    // Whoever opens or reads what is not there learns that, and no other error.
    let absent = read_object(storage, "a/nothing").await.unwrap_err();
    assert!(absent.is_missing() && !absent.is_transient(), "{absent:?}");
    // It exists when it is finished, and not before.
    let mut writer = storage.create("a/b/object").await.unwrap();
    writer.write(Bytes::from_static(b"hello ")).await.unwrap();
    writer.write(Bytes::from_static(b"world")).await.unwrap();
    assert_eq!(storage.stat("a/b/object").await.unwrap(), None);
    assert!(storage.list("a").await.unwrap().is_empty());
    assert!(storage.names("a/b").await.unwrap().is_empty());
    assert_eq!(writer.finish().await.unwrap(), 11);
    assert_eq!(storage.stat("a/b/object").await.unwrap().unwrap().size, 11);
    assert_eq!(read(storage, "a/b/object").await, b"hello world");
    // Given up, it never appears.
    let mut writer = storage.create("a/b/dropped").await.unwrap();
    writer.write(Bytes::from(vec![1; 6 << 20])).await.unwrap();
    drop(writer);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(storage.stat("a/b/dropped").await.unwrap(), None);
    assert_eq!(storage.names("a/b").await.unwrap(), ["object"]);
    // In parts, and byte for byte.
    let large: Vec<u8> = (0..12_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut writer = storage.create("a/large").await.unwrap();
    for piece in large.chunks(777_777) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap(), large.len() as u64);
    assert!(read(storage, "a/large").await == large);
    // Another under the same name replaces it as a whole.
    write_object(storage, "a/b/object", &b"again"[..]).await.unwrap();
    assert_eq!(read(storage, "a/b/object").await, b"again");
    write_object(storage, "a/empty", Bytes::new()).await.unwrap();
    assert_eq!(read(storage, "a/empty").await, b"");
    // A prefix ends at a slash.
    write_object(storage, "ab/other", &b"x"[..]).await.unwrap();
    let listed = storage.list("a").await.unwrap();
    assert_eq!(listed, [("a/b/object".into(), 5), ("a/empty".into(), 0), ("a/large".into(), large.len() as u64)]);
    assert_eq!(storage.names("").await.unwrap(), ["a", "ab"]);
    assert_eq!(storage.names("a").await.unwrap(), ["b", "empty", "large"]);
    assert_eq!(storage.list("a/b/object").await.unwrap_or_default().len(), 0);
    // Gone is gone, twice too.
    for key in ["a/b/object", "a/b/object", "a/large", "a/empty", "ab/other", "never"] {
        storage.delete(key).await.unwrap();
    }
    // A directory with nothing in it may be seen for a while: SeaweedFS keeps them.
    assert!(storage.list("").await.unwrap().is_empty());
    assert_eq!(storage.delete_unfinished("a").await.unwrap(), 0);
}

#[test]
fn every_store_does_what_a_store_must() {
    let directory = directory();
    let runtime = runtime();
    let stores = ["seaweedfs", "sftp"].map(|kind| Store::start(directory.path(), kind));
    let mut places: Vec<(&str, config::Repository)> =
        stores.iter().map(|store| (store.kind, store.options())).collect();
    places.push(("local", local_repository(&directory.path().join("local")).unwrap()));
    // A mounted share that cannot make directories durable.
    let path = directory.path().join("share");
    let share =
        format!("[repositories.share]\ntype = \"local\"\npath = \"{}\"\nsync-directories = false\n", path.display());
    places.push(("share", configured(directory.path(), &share)));
    runtime.block_on(async {
        for (name, options) in &places {
            let begun = std::time::Instant::now();
            let repository = open(name, options);
            conforms(repository.storage.as_ref()).await;
            println!("{name}: conforms, {:.1} s", begun.elapsed().as_secs_f64());
        }
        faults(&places).await;
    });
    // Keys that are wrong are said to be wrong, and not shown.
    let section = stores[0].section("wrong");
    fs::write(stores[0].directory.join("secret"), "a-secret-that-is-wrong\n").unwrap();
    let options = configured(directory.path(), &section);
    let refused = runtime.block_on(async {
        let repository = open("wrong", &options);
        repository.prepare().await.unwrap_err()
    });
    let words = pgbosun_core::human::chain(&refused);
    assert!(words.contains("PermissionDenied") && !words.contains("that-is-wrong"), "{words}");
}

/// What goes wrong under a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The third write fails.
    Write,
    /// The third write never returns.
    Hang,
    /// The end of the object is lost, and the store says nothing.
    Torn,
    /// Reading ends early.
    Truncated,
    /// Everything takes its time.
    Slow,
}

#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Storage>,
    fault: Fault,
}

struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    fault: Fault,
    writes: u32,
}

#[async_trait]
impl Storage for Faulty {
    async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, Error> {
        let inner = self.inner.create(key).await?;
        Ok(Box::new(FaultyWriter { inner, fault: self.fault, writes: 0 }))
    }
    async fn open(&self, key: &str) -> Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>, Error> {
        let reader = self.inner.open(key).await?;
        Ok(if self.fault == Fault::Truncated { Box::new(reader.take(1000)) } else { reader })
    }
    async fn stat(&self, key: &str) -> Result<Option<Stat>, Error> {
        self.inner.stat(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        self.inner.list(prefix).await
    }
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.inner.names(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.inner.delete(key).await
    }
    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error> {
        self.inner.delete_unfinished(prefix).await
    }
    async fn free_bytes(&self) -> Result<Option<u64>, Error> {
        self.inner.free_bytes().await
    }
}

#[async_trait]
impl ObjectWriter for FaultyWriter {
    async fn write(&mut self, mut data: Bytes) -> Result<(), Error> {
        self.writes += 1;
        match self.fault {
            Fault::Write if self.writes == 3 => {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
                return Err(Error::Storage { action: "write", object: "object".into(), source });
            }
            Fault::Hang if self.writes == 3 => std::future::pending().await,
            Fault::Torn if self.writes == 3 => data.truncate(data.len() / 2),
            Fault::Slow => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => {}
        }
        self.inner.write(data).await
    }

    async fn finish(self: Box<Self>) -> Result<u64, Error> {
        self.inner.finish().await
    }
}

/// A pass to a faulty and a sound repository: the sound one has all of it, the faulty one is dropped, and none of its
/// objects is taken for whole. Bytes that do not compress, so that several chunks are written.
async fn faults(places: &[(&str, config::Repository)]) {
    for (name, options) in places {
        println!("{name}");
        for fault in [Fault::Write, Fault::Hang, Fault::Torn, Fault::Truncated, Fault::Slow] {
            let mut options = options.clone();
            options.common.stall_timeout = Duration::from_secs(8);
            // So that the object is written in several pieces.
            options.common.compression = config::Compression::None;
            let place =
                BackupRef { cluster: "c".into(), system_id: "1".into(), label: format!("{fault:?}").to_lowercase() };
            let sound = open("sound", &options);
            let inner = Arc::clone(&sound.storage);
            let other = BackupRef { label: format!("{}-faulty", place.label), ..place.clone() };
            let faulty = Repository::on("faulty", &options.common, Arc::new(Faulty { inner, fault }));
            let begun = std::time::Instant::now();
            let written = pass(&sound, &place).await.unwrap();
            println!("{fault:?}: a sound pass takes {:.1} s", begun.elapsed().as_secs_f64());
            let failed = pass(&faulty, &other).await;
            match fault {
                Fault::Slow => assert!(failed.is_ok(), "{name} {fault:?}"),
                Fault::Truncated => {
                    let object = failed.unwrap();
                    let key = other.key(&object.name);
                    let read = pgbosun_repository::check_stored(&faulty, &key, &object).await;
                    assert!(matches!(read, Err(Error::Damaged { .. })), "{name} {fault:?}: {read:?}");
                }
                _ => {
                    let error = failed.expect_err(&format!("{name} {fault:?}"));
                    assert!(!error.to_string().is_empty());
                    let listed = sound.storage.list(&other.prefix()).await.unwrap();
                    // What was torn has a name and the wrong size, and no backup.json will ever name it.
                    assert!(listed.is_empty() || fault == Fault::Torn, "{name} {fault:?}: {listed:?}");
                }
            }
            let key = place.key(&written.name);
            pgbosun_repository::check_stored(&sound, &key, &written).await.unwrap();
            sound.remove(&place).await.unwrap();
            sound.remove(&other).await.unwrap();
        }
    }
}

async fn pass(repository: &Repository, place: &BackupRef) -> Result<pgbosun_repository::Object, Error> {
    let to = Arc::new(Destinations::new(std::slice::from_ref(repository), place));
    let work = async {
        let mut volume = VolumeWriter::create(&to, "base.0001", ObjectKind::Data).await?;
        let mut noise = 1_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(6 << 20)
        .collect();
        volume.begin_file("noise", bytes.len() as u64).await?;
        for piece in bytes.chunks(1 << 16) {
            volume.write(piece).await?;
        }
        let written = volume.finish().await?;
        Ok(written.objects.into_values().flatten().next().unwrap())
    };
    let done: Result<_, Error> = work.await;
    to.settle().await;
    let dropped = to.dropped().into_iter().next();
    match (done, dropped) {
        (Ok(_), Some((_, error))) | (Err(error), _) => Err(error),
        (Ok(object), None) => Ok(object),
    }
}

/// PostgreSQL archives into a bucket whose store is killed and comes back; what it was told is archived is there.
#[test]
fn c1_c26_a_store_that_is_killed_loses_nothing_that_was_acknowledged() {
    let directory = directory();
    let mut store = Store::start(directory.path(), "seaweedfs");
    let kept = directory.path().join("kept");
    fs::create_dir(&kept).unwrap();
    let configuration = format!(
        "[clusters.main]\nconnection = \"host={} user=postgres dbname=postgres\"\n{}request-retries = 1\ntimeout = \"5s\"\n{MAIL}\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"bucket\"]\nretries = 5\nretry-delay = \"1s\"\n",
        directory.path().display(),
        store.section("bucket"),
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    // The original of every segment that was acknowledged.
    let archiving = Cluster::archiving(directory.path())
        .replace("wal push \"%p\"'", &format!("wal push \"%p\" && cp \"%p\" \"{}/%f\"'", kept.display()));
    let cluster = Cluster::start_with(directory.path(), &archiving);
    cluster.pgbench(3);
    installation.start();
    installation.run(&["job", "run", "full"]);
    for round in 0..3 {
        for _ in 0..4 {
            cluster.sql("update pgbench_accounts set abalance = abalance + 1 where aid % 20 = 0");
            cluster.sql("select pg_switch_wal()");
        }
        std::thread::sleep(Duration::from_millis(300));
        store.down();
        cluster.sql("update pgbench_accounts set abalance = abalance + 1 where aid % 30 = 0");
        cluster.sql("select pg_switch_wal()");
        std::thread::sleep(Duration::from_millis(700 * (round + 1)));
        store.up();
    }
    cluster.archive_all();
    wait_until("the backup is done or made anew", seconds(120), || {
        installation.count("full", "succeeded") + installation.count("full", "failed") > 0
    });
    if installation.count("full", "succeeded") == 0 {
        installation.run(&["backup", "create"]);
    }
    let names: Vec<_> = fs::read_dir(&kept).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        let name = name.to_string_lossy();
        let fetched = directory.path().join("fetched");
        let mut fetch = installation.command(&["wal", "fetch", &name, fetched.to_str().unwrap()]);
        output(fetch.current_dir(&cluster.data));
        assert!(fs::read(&fetched).unwrap() == fs::read(kept.join(&*name)).unwrap(), "{name} is not the original");
    }
    installation.run(&["backup", "verify", "--all"]);
    // And from there it comes back.
    let target = directory.path().join("restored");
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap()]);
    let socket = directory.path().join("s");
    fs::create_dir(&socket).unwrap();
    let restored = Cluster::adopt(&target, &socket);
    restored.recovered();
    let sum = "select sum(abalance), count(*) from pgbench_accounts";
    assert_eq!(restored.sql(sum), cluster.sql(sum));
}
