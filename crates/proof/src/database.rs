//! The database as somebody with a stolen login reaches it: any SQL, and no help from the application.

use tokio_postgres::{Client, Config, Error, NoTls};

/// A session of one login. Its statements are whatever an attacker would send.
pub struct Session {
    /// The connection.
    pub client: Client,
}

impl Session {
    /// Logs in. The addresses of rehearsals lead to Unix sockets.
    ///
    /// # Errors
    /// Where the login is refused.
    #[expect(
        clippy::disallowed_methods,
        reason = "the driver wants its connection driven, and this is the attacker's process"
    )]
    pub async fn open(url: &str) -> Result<Self, Error> {
        let (client, connection) = url.parse::<Config>()?.connect(NoTls).await?;
        // Ends with the client; what breaks it breaks the next statement, too.
        tokio::spawn(async move {
            let _broken = connection.await;
        });
        Ok(Self { client })
    }
}
