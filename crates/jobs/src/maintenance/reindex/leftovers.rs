//! What an interrupted REINDEX CONCURRENTLY left: found by name and definition, and removed.
//!
//! Invariant: only an invalid index is removed, that has a valid twin, whose table nobody builds an index on.

use crate::{
    JobError,
    maintenance::{
        run::{MaintenanceRun, MaintenanceTarget},
        session::{Ended, MaintenanceSession},
    },
};
use pgbosun_core::maintenance::{Action, Ending};
use std::time::Instant;

#[derive(sqlx::FromRow)]
struct Leftover {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    bytes: i64,
    replaced: bool,
    builder: Option<i32>,
}

/// Removes what is left on one table, or on all; how many stay.
pub(super) async fn remove(
    run: &mut MaintenanceRun<'_>,
    session: &mut MaintenanceSession,
    table: Option<i64>,
) -> Result<usize, JobError> {
    let found: Vec<Leftover> =
        session.rows_of("look for leftovers", include_str!("leftovers.sql"), table.unwrap_or_default()).await?;
    let mut stay = found.len();
    for Leftover { name, bytes, replaced, builder } in found {
        let database = session.database.clone();
        let (action, reason) = (Action::Drop, "left behind by an interrupted reindex");
        let target =
            MaintenanceTarget { database: &database, object: &name, action, reason, bytes: bytes.unsigned_abs() };
        let statement = format!("DROP INDEX CONCURRENTLY {name}");
        let in_the_way = match builder {
            // What is no UTF-8 was replaced in it: another index may have the name as it is now.
            _ if name.contains('\u{fffd}') => Some("its name is not valid UTF-8: drop it by hand".into()),
            Some(pid) => Some(format!("process {pid} is working on its table: it may still be building the index")),
            None if !replaced => Some("there is no valid index with the same definition: build that first".into()),
            None => None,
        };
        if run.context.dry_run {
            let told = in_the_way.unwrap_or_else(|| reason.to_owned());
            run.would(&database, &format!("{statement};  -- {told}"));
        } else if let Some(reason) = in_the_way {
            run.skip(&target, reason);
        } else {
            let begun = Instant::now();
            match session.tidy(&statement, run).await? {
                Ended::Done => {
                    stay -= 1;
                    run.record(&target, Ending::Done, reason.into(), Some(0), None, begun.elapsed());
                }
                ended => run.record_ending(&target, &ended, begun.elapsed()),
            }
        }
    }
    Ok(stay)
}
