//! Sabotage: one point for each control, at which that control can be switched off to see whether its probe notices.
//!
//! Without the feature `sabotage` there is nothing here but the macro, which is then the constant `false`: no name of a point and no way to
//! choose one is in such a build. With it a process takes at most one point, once, before it begins to serve.
//!
//! A point is one line at the control itself: `if sabotaged!(ForeignOrigins) { … }`. Its name is that of its probe where the probe is about
//! one control, and one that the probe lists where it is about several.

/// Whether the control at this point is switched off in this process: `false` in every build without the feature `sabotage`.
#[cfg(not(feature = "sabotage"))]
#[macro_export]
macro_rules! sabotaged {
    ($point:ident) => {
        false
    };
}

/// Whether the control at this point is switched off in this process.
#[cfg(feature = "sabotage")]
#[macro_export]
macro_rules! sabotaged {
    ($point:ident) => {
        $crate::sabotage::Point::$point.is_chosen()
    };
}

#[cfg(feature = "sabotage")]
pub use points::{MARK, Point};

#[cfg(feature = "sabotage")]
mod points {
    use std::sync::OnceLock;

    /// What is in the program file of a build with sabotage, and in no other.
    pub const MARK: &str = "keyholder-sabotage-build:controls-can-be-switched-off:b7c1d7a4";

    static CHOSEN: OnceLock<Point> = OnceLock::new();

    macro_rules! points {
        ($($point:ident = $name:literal,)*) => {
            /// A control that can be switched off.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Point {
                $(
                    #[doc = $name]
                    $point,
                )*
            }

            impl Point {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$point),*];

                /// Its name, by which a probe lists it.
                pub fn name(self) -> &'static str {
                    match self {
                        $(Self::$point => $name,)*
                    }
                }
            }
        };
    }

    points! {
        AuditedRoutes = "audited-routes",
        BodyNotJson = "body-not-json",
        BoundSeals = "bound-seals",
        BrowserAssets = "browser-assets",
        BurstAndQuota = "burst-and-quota",
        CertificatesNamed = "certificates-named",
        ChangedSeals = "changed-seals",
        ClearBesideTls = "clear-beside-tls",
        ClearText = "clear-text",
        ConcealedExplanations = "concealed-explanations",
        CredentialNowhere = "credential-nowhere",
        DailyQuotas = "daily-quotas",
        DatabaseVersion = "database-version",
        DatabaseWheels = "database-wheels",
        DefinerFunctions = "definer-functions",
        Disconnect = "disconnect",
        DismissedMeanwhile = "dismissed-meanwhile",
        DismissedPersons = "dismissed-persons",
        EnvironmentsApart = "environments-apart",
        EscapedPages = "escaped-pages",
        FernetAtRest = "fernet-at-rest",
        ForeignDatabases = "foreign-databases",
        ForeignForms = "foreign-forms",
        ForeignOrigins = "foreign-origins",
        GuardedJobs = "guarded-jobs",
        HashedKeys = "hashed-keys",
        HonestList = "honest-list",
        HouseModel = "house-model",
        Hsts = "hsts",
        IsolationBattery = "isolation-battery",
        KeyBudgets = "key-budgets",
        KeyShownOnce = "key-shown-once",
        LeastPrivilegeRoles = "least-privilege-roles",
        LedOn = "led-on",
        LimitHeaders = "limit-headers",
        LoginRotation = "login-rotation",
        LoginsInSource = "logins-in-source",
        LoginsReread = "logins-reread",
        LoginsRested = "logins-rested",
        MaskedLogs = "masked-logs",
        NoContentInLogs = "no-content-in-logs",
        NoSecretInBrowser = "no-secret-in-browser",
        NoSecretInHistory = "no-secret-in-history",
        ObjectCascade = "object-cascade",
        OpaqueErrors = "opaque-errors",
        OpaqueRefusals = "opaque-refusals",
        OpenedForOneCall = "opened-for-one-call",
        OriginsFixed = "origins-fixed",
        OverdueLogins = "overdue-logins",
        PinnedDependencies = "pinned-dependencies",
        PkceConnect = "pkce-connect",
        PlanFeatures = "plan-features",
        PlatformSecretsOutside = "platform-secrets-outside",
        ProviderRevocations = "provider-revocations",
        PublishingKeys = "publishing-keys",
        RedactedLogs = "redacted-logs",
        RelationBatches = "relation-batches",
        RelationBounds = "relation-bounds",
        RelationBrought = "relation-brought",
        RelationChanges = "relation-changes",
        RelationContexts = "relation-contexts",
        RelationDepth = "relation-depth",
        RelationModelNumber = "relation-model-number",
        RelationModels = "relation-models",
        RelationPatterns = "relation-patterns",
        RelationPatternsTogether = "relation-patterns-together",
        RelationRoom = "relation-room",
        RelationStoreNumber = "relation-store-number",
        RelationStores = "relation-stores",
        RelationTuples = "relation-tuples",
        RelationWeights = "relation-weights",
        RelationWrites = "relation-writes",
        ReviewDate = "review-date",
        RevocationAcrossNodes = "revocation-across-nodes",
        RoleTemplateTrail = "role-template-trail",
        RoleTemplates = "role-templates",
        RootKeyNeeded = "root-key-needed",
        RootKeyOutside = "root-key-outside",
        RouteGuards = "route-guards",
        RowLevelSecurity = "row-level-security",
        ScheduledRotations = "scheduled-rotations",
        ScopedQueries = "scoped-queries",
        ScopesAsked = "scopes-asked",
        Scripts = "scripts",
        SealedAtRest = "sealed-at-rest",
        SealedOnReceipt = "sealed-on-receipt",
        SecurityHeaders = "security-headers",
        SecurityTxt = "security-txt",
        SettingsAtStart = "settings-at-start",
        SettingsFormed = "settings-formed",
        SettingsRequired = "settings-required",
        ShippedBuilds = "shipped-builds",
        SilentNotifications = "silent-notifications",
        StaleAdmissions = "stale-admissions",
        StalePermits = "stale-permits",
        StaleReads = "stale-reads",
        StatementAudience = "statement-audience",
        StatementNumbers = "statement-numbers",
        StatementSignatures = "statement-signatures",
        StaticSql = "static-sql",
        StolenDatabase = "stolen-database",
        StrictInput = "strict-input",
        SuperAdmins = "super-admins",
        SystemObjects = "system-objects",
        TenantKeys = "tenant-keys",
        TlsListener = "tls-listener",
        UnseenChanges = "unseen-changes",
        UpstreamTls = "upstream-tls",
        WorkspaceGone = "workspace-gone",
    }

    impl Point {
        /// The point of a name.
        pub fn named(name: &str) -> Option<Self> {
            Self::ALL.iter().copied().find(|point| point.name() == name)
        }

        /// Switches this control off for the life of the process. Returns whether it was the first to be chosen.
        pub fn choose(self) -> bool {
            CHOSEN.set(self).is_ok()
        }

        /// Whether this control is switched off.
        pub fn is_chosen(self) -> bool {
            CHOSEN.get() == Some(&self)
        }

        /// The control that is switched off, if one is.
        pub fn chosen() -> Option<Self> {
            CHOSEN.get().copied()
        }
    }
}
