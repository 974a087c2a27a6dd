//! placeholder
/// x
/// # Errors
/// x
pub fn run() -> std::io::Result<()> {
    Ok(())
}
