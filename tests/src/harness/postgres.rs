//! A fresh database for each story, on the server that `DATABASE_URL` names or on one of the story's own.

use anyhow::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};

/// A database of its own; dropped by [`TestDatabase::drop_now`], else left for the server's end.
pub struct TestDatabase {
    server: PgConnectOptions,
    name: String,
    /// Connections as the server's administrator.
    pub pool: PgPool,
}

impl TestDatabase {
    /// Makes an empty database on the server that `DATABASE_URL` names.
    ///
    /// # Errors
    /// When there is no server: `./dev test` starts one.
    pub async fn create() -> anyhow::Result<Self> {
        let url = std::env::vars()
            .find(|(name, _)| name == "DATABASE_URL")
            .map(|(_, value)| value)
            .context("DATABASE_URL is not set; run this through ./dev test")?;
        Self::create_on(&url).await
    }

    /// Makes an empty database on another server, such as one that a story is going to stop.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn create_on(url: &str) -> anyhow::Result<Self> {
        let server: PgConnectOptions = url.parse()?;
        let name = format!("story_{}", uuid::Uuid::new_v4().simple());
        let mut connection = server.connect().await?;
        sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        let pool = PgPoolOptions::new().max_connections(3).connect_with(server.clone().database(&name)).await?;
        Ok(Self { server, name, pool })
    }

    /// One that is there already, under this name.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn existing_on(url: &str, name: &str) -> anyhow::Result<Self> {
        let server: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new().max_connections(3).connect_with(server.clone().database(name)).await?;
        Ok(Self { server, name: name.to_owned(), pool })
    }

    /// The URL for the daemon's configuration.
    pub fn url(&self) -> String {
        format!("postgres://{}@localhost:{}/{}?host={}", self.server.get_username(), self.server.get_port(), self.name, self.host())
    }

    /// The same for programs that take a host before the `@` for the better word, as those of Python do.
    pub fn url_by_query(&self) -> String {
        format!("postgresql://{}@/{}?host={}&port={}", self.server.get_username(), self.name, self.host(), self.server.get_port())
    }

    /// Host or folder of the socket, as it stands in a query.
    fn host(&self) -> String {
        let host = self.server.get_socket().map_or_else(|| self.server.get_host().to_owned(), |socket| socket.display().to_string());
        host.bytes()
            .map(
                |byte| {
                    if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
                        char::from(byte).to_string()
                    } else {
                        format!("%{byte:02X}")
                    }
                },
            )
            .collect()
    }

    /// The URL for a daemon that gets here through a door.
    pub fn url_through(&self, door: std::net::SocketAddr) -> String {
        format!("postgres://{}@{door}/{}?sslmode=disable", self.server.get_username(), self.name)
    }

    /// Where a door to the server has to lead.
    ///
    /// # Errors
    /// When the server is at no address a door can lead to.
    pub fn target(&self) -> anyhow::Result<super::Target> {
        let host = self.server.get_host();
        let folder = self.server.get_socket().cloned().or_else(|| host.starts_with('/').then(|| host.into()));
        match folder {
            Some(folder) => Ok(super::Target::Unix(folder.join(format!(".s.PGSQL.{}", self.server.get_port())))),
            None => Ok(super::Target::Tcp(format!("{host}:{}", self.server.get_port()).parse()?)),
        }
    }

    /// Cuts every connection of others to this database.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn cut_connections(&self) -> anyhow::Result<()> {
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()")
            .bind(&self.name)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Makes the database unreachable: nobody gets in any more, and whoever was in is out.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn shut(&self) -> anyhow::Result<()> {
        self.admit(false).await?;
        let mut connection = self.server.connect().await?;
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
            .bind(&self.name)
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// Makes it reachable again.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn reopen(&self) -> anyhow::Result<()> {
        self.admit(true).await
    }

    async fn admit(&self, everybody: bool) -> anyhow::Result<()> {
        let mut connection = self.server.connect().await?;
        sqlx::query(AssertSqlSafe(format!("alter database {} allow_connections {everybody}", self.name))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops the database, connections or not.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn drop_now(self) -> anyhow::Result<()> {
        self.pool.close().await;
        let mut connection = self.server.connect().await?;
        sqlx::query(AssertSqlSafe(format!("drop database if exists {} with (force)", self.name))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}
