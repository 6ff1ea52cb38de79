//! Reading one record.

use sluice_control_domain::{Load, Record, RecordKey, Store, Stored, Typed};

/// The record of sort `R` named `id`, if it is there.
pub(crate) async fn one<R: Record>(store: &dyn Store, tenant: &str, id: &str) -> anyhow::Result<Option<Typed<R>>> {
    let key = RecordKey { kind: R::KIND, tenant: tenant.to_owned(), id: id.to_owned() };
    let found = store.load(Load::Keys(vec![key])).await?.pop();
    Ok(found.map(Stored::typed).transpose()?)
}
