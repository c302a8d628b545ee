//! The signing keys of several replicas: what one did, the others follow.

use tracing::info;

use super::{Rotation, RotationFault, known, on_a_thread};

impl Rotation {
    /// Takes over what the store says of the keys, and reads the folder again: the signer that it names signs here too, and
    /// what was stopped is dead here too. Where this replica lets a key take over, it says so first.
    ///
    /// On a fault the keys that serve go on serving; a signer that is not in the folder is one.
    pub async fn follow(&self) -> Result<(), RotationFault> {
        let mut turn = self.0.turn.lock().await;
        self.remember(&mut turn).await?;
        let stored = known(&self.0.store).await?;
        let (keys, before) = (self.0.keys.clone(), self.0.keys.ring());
        let ring = on_a_thread(move || keys.follow(&stored)).await?;
        if ring.kid() != before.kid() {
            turn.have_signed.insert(before.kid().to_owned());
            info!(
                kid = ring.kid(),
                before = before.kid(),
                "another key signs from now on, as another replica says"
            );
        }
        // Where the signer was stopped, the one that signs now has to be noted.
        self.remember(&mut turn).await
    }
}
