//! The configs of a broker: TLS, SASL, delegation tokens (apache/kafka `BrokerSecurityConfigs`,
//! `SslConfigs`, `SaslConfigs`, `DelegationTokenManagerConfigs`). None has an effect yet: they are
//! accepted, kept and described, secrets hidden.

use super::row::{boolean, double, int, list, long, short, string, unset};
use super::{Definition, Kind, Rule};

const ANY: Rule = Rule::Any;
const FROM_1: Rule = Rule::AtLeast(1);

pub(super) static TABLE: &[Definition] = &[
    long(
        "connections.max.reauth.ms",
        "0",
        ANY,
        "How long an authentication lasts, in milliseconds; 0: for ever.",
    )
    .inert(),
    int(
        "sasl.server.max.receive.size",
        "524288",
        ANY,
        "The largest SASL message, in bytes.",
    )
    .inert(),
    unset(
        "security.providers",
        Kind::String,
        ANY,
        "Java security providers.",
    )
    .inert(),
    Definition::new(
        "principal.builder.class",
        Kind::Class,
        Some("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"),
        ANY,
        "The Java class that names who is connected.",
    )
    .per_broker()
    .inert(),
    // TLS.
    string(
        "ssl.client.auth",
        "none",
        Rule::OneOf(&["required", "requested", "none"]),
        "Whether clients must show a certificate.",
    )
    .per_broker()
    .inert(),
    string(
        "ssl.principal.mapping.rules",
        "DEFAULT",
        ANY,
        "How a certificate's name becomes a user's.",
    )
    .inert(),
    boolean(
        "ssl.allow.dn.changes",
        "false",
        "Let a reloaded certificate have another name.",
    )
    .inert(),
    boolean(
        "ssl.allow.san.changes",
        "false",
        "Let a reloaded certificate have other alternative names.",
    )
    .inert(),
    string(
        "ssl.protocol",
        "TLSv1.3",
        ANY,
        "The TLS version of the Java context.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.provider",
        Kind::String,
        ANY,
        "The Java provider of TLS.",
    )
    .per_broker()
    .inert(),
    list(
        "ssl.enabled.protocols",
        "TLSv1.2,TLSv1.3",
        ANY,
        "The TLS versions that are offered.",
    )
    .per_broker()
    .inert(),
    string(
        "ssl.keystore.type",
        "JKS",
        ANY,
        "The format of the key store.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.keystore.location",
        Kind::String,
        ANY,
        "The file of the key store.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.keystore.password",
        Kind::Password,
        ANY,
        "The key store's password.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.key.password",
        Kind::Password,
        ANY,
        "The private key's password.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.keystore.key",
        Kind::Password,
        ANY,
        "The private key, as PEM.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.keystore.certificate.chain",
        Kind::Password,
        ANY,
        "The certificates, as PEM.",
    )
    .per_broker()
    .inert(),
    string(
        "ssl.truststore.type",
        "JKS",
        ANY,
        "The format of the trust store.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.truststore.location",
        Kind::String,
        ANY,
        "The file of the trust store.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.truststore.password",
        Kind::Password,
        ANY,
        "The trust store's password.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.truststore.certificates",
        Kind::Password,
        ANY,
        "The trusted certificates, as PEM.",
    )
    .per_broker()
    .inert(),
    string(
        "ssl.keymanager.algorithm",
        "SunX509",
        ANY,
        "The Java key manager.",
    )
    .per_broker()
    .inert(),
    string(
        "ssl.trustmanager.algorithm",
        "PKIX",
        ANY,
        "The Java trust manager.",
    )
    .per_broker()
    .inert(),
    string(
        "ssl.endpoint.identification.algorithm",
        "https",
        ANY,
        "How a server's name is checked.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.secure.random.implementation",
        Kind::String,
        ANY,
        "The Java source of random numbers.",
    )
    .per_broker()
    .inert(),
    list(
        "ssl.cipher.suites",
        "",
        ANY,
        "The cipher suites that are offered; empty: all.",
    )
    .per_broker()
    .inert(),
    unset(
        "ssl.engine.factory.class",
        Kind::Class,
        ANY,
        "The Java class that makes TLS engines.",
    )
    .per_broker()
    .inert(),
    // SASL.
    string(
        "sasl.mechanism.inter.broker.protocol",
        "GSSAPI",
        ANY,
        "The SASL mechanism among brokers.",
    )
    .per_broker()
    .inert(),
    list(
        "sasl.enabled.mechanisms",
        "GSSAPI",
        ANY,
        "The SASL mechanisms that are offered.",
    )
    .per_broker()
    .inert(),
    unset(
        "sasl.server.callback.handler.class",
        Kind::Class,
        ANY,
        "The Java class behind a SASL server.",
    )
    .inert(),
    unset(
        "sasl.client.callback.handler.class",
        Kind::Class,
        ANY,
        "The Java class behind a SASL client.",
    )
    .inert(),
    list(
        "sasl.kerberos.principal.to.local.rules",
        "DEFAULT",
        ANY,
        "How a Kerberos principal becomes a user.",
    )
    .per_broker()
    .inert(),
    unset(
        "sasl.jaas.config",
        Kind::Password,
        ANY,
        "Java's login configuration.",
    )
    .per_broker()
    .inert(),
    unset(
        "sasl.login.class",
        Kind::Class,
        ANY,
        "The Java class that logs in.",
    )
    .inert(),
    unset(
        "sasl.login.callback.handler.class",
        Kind::Class,
        ANY,
        "The Java class behind a login.",
    )
    .inert(),
    unset(
        "sasl.kerberos.service.name",
        Kind::String,
        ANY,
        "The Kerberos principal that brokers run as.",
    )
    .per_broker()
    .inert(),
    string(
        "sasl.kerberos.kinit.cmd",
        "/usr/bin/kinit",
        ANY,
        "The path of kinit.",
    )
    .per_broker()
    .inert(),
    double(
        "sasl.kerberos.ticket.renew.window.factor",
        "0.8",
        ANY,
        "When a ticket is renewed, as a share of its life.",
    )
    .per_broker()
    .inert(),
    double(
        "sasl.kerberos.ticket.renew.jitter",
        "0.05",
        ANY,
        "How much that varies.",
    )
    .per_broker()
    .inert(),
    long(
        "sasl.kerberos.min.time.before.relogin",
        "60000",
        ANY,
        "The shortest time between two logins, in milliseconds.",
    )
    .per_broker()
    .inert(),
    double(
        "sasl.login.refresh.window.factor",
        "0.8",
        Rule::BetweenDouble(0.5, 1.0),
        "When a login is refreshed, as a share of its life.",
    )
    .per_broker()
    .inert(),
    double(
        "sasl.login.refresh.window.jitter",
        "0.05",
        Rule::BetweenDouble(0.0, 0.25),
        "How much that varies.",
    )
    .per_broker()
    .inert(),
    short(
        "sasl.login.refresh.min.period.seconds",
        "60",
        Rule::Between(0, 900),
        "The shortest time between two refreshes, in seconds.",
    )
    .per_broker()
    .inert(),
    short(
        "sasl.login.refresh.buffer.seconds",
        "300",
        Rule::Between(0, 3600),
        "How long before its end a login is refreshed, in seconds.",
    )
    .per_broker()
    .inert(),
    unset(
        "sasl.login.connect.timeout.ms",
        Kind::Int,
        ANY,
        "How long a login may connect, in milliseconds.",
    )
    .inert(),
    unset(
        "sasl.login.read.timeout.ms",
        Kind::Int,
        ANY,
        "How long a login may read, in milliseconds.",
    )
    .inert(),
    long(
        "sasl.login.retry.backoff.max.ms",
        "10000",
        ANY,
        "The longest pause before another login, in milliseconds.",
    )
    .inert(),
    long(
        "sasl.login.retry.backoff.ms",
        "100",
        ANY,
        "The first pause before another login, in milliseconds.",
    )
    .inert(),
    string(
        "sasl.oauthbearer.scope.claim.name",
        "scope",
        ANY,
        "The claim that holds the scope.",
    )
    .inert(),
    string(
        "sasl.oauthbearer.sub.claim.name",
        "sub",
        ANY,
        "The claim that holds the user.",
    )
    .inert(),
    unset(
        "sasl.oauthbearer.token.endpoint.url",
        Kind::String,
        ANY,
        "Where tokens are got.",
    )
    .inert(),
    unset(
        "sasl.oauthbearer.jwks.endpoint.url",
        Kind::String,
        ANY,
        "Where keys are got that check tokens.",
    )
    .inert(),
    long(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        "3600000",
        ANY,
        "How often those keys are fetched, in milliseconds.",
    )
    .inert(),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        "100",
        ANY,
        "The first pause before another try, in milliseconds.",
    )
    .inert(),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        "10000",
        ANY,
        "The longest pause before another try, in milliseconds.",
    )
    .inert(),
    int(
        "sasl.oauthbearer.clock.skew.seconds",
        "30",
        ANY,
        "How far clocks may differ, in seconds.",
    )
    .inert(),
    unset(
        "sasl.oauthbearer.expected.audience",
        Kind::List,
        ANY,
        "The audiences that a token may be for.",
    )
    .inert(),
    unset(
        "sasl.oauthbearer.expected.issuer",
        Kind::String,
        ANY,
        "The issuer that a token must be from.",
    )
    .inert(),
    // Delegation tokens.
    unset(
        "delegation.token.secret.key",
        Kind::Password,
        ANY,
        "The key that signs delegation tokens.",
    )
    .inert(),
    long(
        "delegation.token.max.lifetime.ms",
        "604800000",
        FROM_1,
        "How long a token can live at most, in milliseconds.",
    )
    .inert(),
    long(
        "delegation.token.expiry.time.ms",
        "86400000",
        FROM_1,
        "How long a token lives unless renewed, in milliseconds.",
    )
    .inert(),
    long(
        "delegation.token.expiry.check.interval.ms",
        "3600000",
        FROM_1,
        "How often expired tokens are looked for, in milliseconds.",
    )
    .inert(),
];
