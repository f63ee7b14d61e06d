//! `guard`: the guard process of one window.

use super::{Context, EdgeError, Failure};
use crate::backup::guard::serve::serve;
use crate::error::Exit;

/// One thread is enough, and one thread cannot starve another.
pub fn run(context: Context) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EdgeError::Runtime)?;
    let served = runtime.block_on(serve(&context.tools));
    // A thread of the runtime still reads standard input and would be waited for.
    runtime.shutdown_background();
    served.map_err(EdgeError::Runtime)?;
    Ok(Exit::Done)
}
