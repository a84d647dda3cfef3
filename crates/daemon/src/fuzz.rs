//! What others write, for the fuzz targets of `tests/fuzz`: configurations.

/// A configuration with every kind of job, store and channel.
pub fn configuration(data: &[u8]) {
    let place = std::env::temp_dir().join(format!("pgbosun-fuzz-{}", uuid::Uuid::new_v4()));
    let file = place.join("pgbosun.toml");
    if std::fs::create_dir_all(&place).and_then(|()| std::fs::write(&file, data)).is_ok()
        && let Err(problems) = crate::load(&file)
    {
        let _ = problems.to_string();
    }
    let _ = std::fs::remove_dir_all(&place);
}

#[cfg(test)]
mod tests {
    #[test]
    fn configuration() {
        pgbosun_seeds::run("configuration", super::configuration);
    }
}
