//! The coverage table: every key of the Compose specification and what is done about it.
//!
//! Data, not code. `docs/compose.md` is made from it, and a test holds it against the key paths of
//! the specification's schema. An entry says `Support` only when the engine does what the key says.

use super::Scope;
use super::Treatment::{self, Partly, Refuse, Support, Warn};

type Table = &'static [(&'static str, Treatment)];

impl Scope {
    /// Its keys.
    pub(crate) fn table(self) -> Table {
        match self {
            Scope::Top => TOP,
            Scope::Service => SERVICE,
            Scope::Build => BUILD,
            Scope::Deploy => DEPLOY,
            Scope::Update | Scope::Rollback => UPDATE,
            Scope::RestartPolicy => RESTART_POLICY,
            Scope::Placement => PLACEMENT,
            Scope::Preference => PREFERENCE,
            Scope::Resources => RESOURCES,
            Scope::Limits => LIMITS,
            Scope::Reservations => RESERVATIONS,
            Scope::Healthcheck => HEALTHCHECK,
            Scope::Port => PORT,
            Scope::Mount => MOUNT,
            Scope::MountBind => MOUNT_BIND,
            Scope::MountVolume => MOUNT_VOLUME,
            Scope::MountTmpfs => MOUNT_TMPFS,
            Scope::Dependency => DEPENDENCY,
            Scope::EnvFile => ENV_FILE,
            Scope::Ulimit => ULIMIT,
            Scope::Device => DEVICE,
            Scope::Attachment => ATTACHMENT,
            Scope::GrantSecret | Scope::GrantConfig => GRANT,
            Scope::PreStart => PRE_START,
            Scope::PostStart | Scope::PreStop => HOOK,
            Scope::Logging => LOGGING,
            Scope::LoggingOptions => LOGGING_OPTIONS,
            Scope::Extends => EXTENDS,
            Scope::Include => INCLUDE,
            Scope::Volume => VOLUME,
            Scope::Network => NETWORK,
            Scope::Secret => SECRET,
            Scope::Config => CONFIG,
            Scope::Extension => EXTENSION,
        }
    }
}

const TOP: Table = &[
    ("name", Support),
    ("services", Support),
    ("volumes", Support),
    (
        "networks",
        Partly("a service finds only the names on its own networks; addresses are not kept apart"),
    ),
    ("configs", Support),
    ("secrets", Support),
    ("include", Support),
    ("models", Refuse("model runners are a part of Docker; run the model as a service")),
    ("version", Warn("Compose has not used it for years")),
];

const SERVICE: Table = &[
    ("image", Partly("what an image holds is not run; see `build` and `x-mainspring`")),
    ("build", Support),
    ("command", Support),
    ("entrypoint", Support),
    ("environment", Support),
    ("env_file", Support),
    ("working_dir", Support),
    ("user", Support),
    ("group_add", Support),
    ("hostname", Support),
    ("container_name", Partly("others find the service by it; the instance keeps its own name")),
    ("labels", Support),
    ("label_file", Support),
    ("annotations", Support),
    ("ports", Support),
    ("expose", Support),
    ("volumes", Support),
    ("tmpfs", Support),
    ("configs", Support),
    ("secrets", Support),
    ("depends_on", Support),
    ("healthcheck", Support),
    ("restart", Support),
    ("init", Support),
    ("stop_signal", Support),
    ("stop_grace_period", Support),
    ("profiles", Support),
    ("scale", Support),
    ("deploy", Support),
    ("extends", Support),
    ("pre_start", Support),
    ("post_start", Support),
    ("pre_stop", Support),
    ("networks", Partly("for names: a service finds only those on its own networks")),
    ("network_mode", Partly("`service:` needs root; in `host` no other service's ports are free")),
    ("links", Partly("the alias is found; the service needs a common network, as any other")),
    ("extra_hosts", Partly("`host-gateway` is the host's first address that is not loopback's")),
    ("dns", Support),
    ("dns_opt", Support),
    ("dns_search", Support),
    ("mem_limit", Support),
    ("mem_reservation", Support),
    ("memswap_limit", Support),
    ("cpus", Support),
    ("cpu_shares", Support),
    ("cpu_quota", Support),
    ("cpu_period", Partly("it divides `cpu_quota`; the period itself is the engine's")),
    ("cpuset", Support),
    ("pids_limit", Support),
    ("read_only", Support),
    ("cap_add", Support),
    ("cap_drop", Support),
    ("privileged", Partly("as far as the engine itself may; devices are not shown")),
    ("security_opt", Partly("`no-new-privileges` and `seccomp`")),
    ("devices", Partly("`permissions` need root; without it they are what the user may do")),
    ("device_cgroup_rules", Warn("name what is used under `devices`")),
    ("sysctls", Partly("those of messages and shared memory; others are the host's")),
    ("ulimits", Partly("no more than the engine may raise them to")),
    ("shm_size", Support),
    ("oom_score_adj", Support),
    ("oom_kill_disable", Warn("the kernel's choice is not steered")),
    ("logging", Support),
    (
        "pull_policy",
        Partly("nothing is pulled; with `build`, `daily` and the like rebuild what is older"),
    ),
    ("pull_refresh_after", Warn("no image is pulled")),
    ("platform", Partly("another system is not placed, other processors are a warning")),
    ("runtime", Partly("`runc` has no effect, others are refused")),
    ("ipc", Partly("each instance has its own; `service:` is refused")),
    ("pid", Partly("each instance has its own; `service:` is refused")),
    ("uts", Partly("each instance has its own")),
    ("cgroup", Partly("each instance has its own")),
    ("x-mainspring", Support),
    // Never.
    ("gpus", Refuse("GPUs are not handed out")),
    ("volumes_from", Refuse("name the volumes under `volumes:`")),
    ("credential_spec", Refuse("it is for Windows")),
    ("isolation", Refuse("it is for Windows")),
    ("userns_mode", Refuse("the engine chooses its namespaces itself")),
    ("provider", Refuse("providers are Docker's plugins; run it as a service")),
    ("models", Refuse("model runners are a part of Docker; run the model as a service")),
    ("use_api_socket", Refuse("there is no Docker to talk to")),
    // No effect.
    ("external_links", Warn("only services of this app have names")),
    ("mac_address", Warn("instances have no network card of their own")),
    ("blkio_config", Warn("disk bandwidth is not divided")),
    ("cpu_rt_period", Warn("real-time scheduling is not handed out")),
    ("cpu_rt_runtime", Warn("real-time scheduling is not handed out")),
    ("cpu_count", Warn("it is for Windows")),
    ("cpu_percent", Warn("it is for Windows")),
    ("cgroup_parent", Warn("the engine arranges its cgroups itself")),
    ("storage_opt", Warn("there is no storage driver")),
    ("develop", Warn("`ms up` again takes up changes")),
    ("attach", Warn("`ms logs` selects services")),
    ("stdin_open", Warn("services read from /dev/null")),
    ("tty", Warn("services write to a pipe")),
    ("domainname", Warn("there is no domain")),
    ("mem_swappiness", Warn("the kernel's own setting holds")),
];

const NO_IMAGE: &str = "layers are kept in the state folder; no image is packed, tagged or sent";
const AS_INSTANCE: &str = "steps run as an instance does, on the host's network";
const NOT_FETCHED: &str = "no image is fetched; the host's programs take its place";

const BUILD: Table = &[
    ("context", Support),
    ("dockerfile", Support),
    ("dockerfile_inline", Support),
    ("target", Support),
    ("args", Support),
    ("additional_contexts", Partly("folders and `docker-image://`; nothing is fetched")),
    ("labels", Warn(NO_IMAGE)),
    ("tags", Warn(NO_IMAGE)),
    ("cache_from", Warn(NO_IMAGE)),
    ("cache_to", Warn(NO_IMAGE)),
    ("no_cache", Support),
    ("no_cache_filter", Warn(NO_IMAGE)),
    ("pull", Warn(NOT_FETCHED)),
    ("platforms", Warn(NOT_FETCHED)),
    ("network", Warn(AS_INSTANCE)),
    ("shm_size", Warn(AS_INSTANCE)),
    ("ulimits", Warn(AS_INSTANCE)),
    ("isolation", Warn(AS_INSTANCE)),
    ("privileged", Warn(AS_INSTANCE)),
    ("provenance", Warn(NO_IMAGE)),
    ("sbom", Warn(NO_IMAGE)),
    ("extra_hosts", Warn(AS_INSTANCE)),
    ("entitlements", Warn(AS_INSTANCE)),
    ("secrets", Support),
    ("ssh", Partly("sockets of agents; a key file is added to an agent first")),
];

const DEPLOY: Table = &[
    ("replicas", Support),
    ("update_config", Support),
    ("resources", Support),
    ("restart_policy", Support),
    ("labels", Support),
    ("mode", Partly("`global` is one instance while there is one node; jobs are refused")),
    ("endpoint_mode", Partly("always `vip`: a name has one address that balances")),
    ("rollback_config", Support),
    ("placement", Support),
];

const UPDATE: Table = &[
    ("parallelism", Support),
    ("delay", Support),
    ("failure_action", Support),
    ("monitor", Support),
    ("max_failure_ratio", Support),
    ("order", Support),
];

const RESTART_POLICY: Table =
    &[("condition", Support), ("max_attempts", Support), ("delay", Support), ("window", Support)];

const PLACEMENT: Table = &[
    ("constraints", Partly("on this node's name, role, system, processors and `MS_NODE_LABELS`")),
    ("preferences", Partly("with one node there is nothing to spread over")),
    ("max_replicas_per_node", Support),
];

const PREFERENCE: Table = &[("spread", Partly("with one node there is nothing to spread over"))];

const RESOURCES: Table = &[("limits", Support), ("reservations", Support)];

const LIMITS: Table = &[("cpus", Support), ("memory", Support), ("pids", Support)];

const RESERVATIONS: Table = &[
    ("cpus", Partly("as a weight when processors are short")),
    ("memory", Partly("taken from it last when memory is short, where the kernel can")),
    ("devices", Refuse("devices and GPUs are not handed out")),
    ("generic_resources", Refuse("devices and GPUs are not handed out")),
];

const HEALTHCHECK: Table = &[
    ("test", Support),
    ("interval", Support),
    ("timeout", Support),
    ("retries", Support),
    ("start_period", Support),
    ("start_interval", Support),
    ("disable", Support),
];

const PORT: Table = &[
    ("target", Support),
    ("published", Support),
    ("host_ip", Support),
    ("protocol", Support),
    ("app_protocol", Support),
    ("name", Support),
    ("mode", Partly("the host's port is always shared by all instances")),
];

const MOUNT: Table = &[
    ("type", Support),
    ("source", Support),
    ("target", Support),
    ("read_only", Support),
    ("bind", Support),
    ("volume", Support),
    ("tmpfs", Support),
    ("consistency", Warn("the host's files are seen as they are")),
    ("image", Refuse("images are not mounted")),
];

const MOUNT_BIND: Table = &[
    ("create_host_path", Support),
    ("propagation", Partly("always `rprivate`")),
    ("recursive", Partly("mounts below the folder always come along")),
    ("selinux", Warn("labels are not changed")),
];

const MOUNT_VOLUME: Table =
    &[("nocopy", Support), ("labels", Warn("label the volume itself")), ("subpath", Support)];

const MOUNT_TMPFS: Table = &[("size", Support), ("mode", Support)];

const DEPENDENCY: Table = &[("condition", Support), ("required", Support), ("restart", Support)];

const ENV_FILE: Table = &[("path", Support), ("required", Support), ("format", Support)];

const ULIMIT: Table = &[("soft", Support), ("hard", Support)];

const DEVICE: Table = &[("source", Support), ("target", Support), ("permissions", Support)];

const ONE_ADDRESS: &str = "every service has one address, which its name leads to";

const ATTACHMENT: Table = &[
    ("aliases", Support),
    ("ipv4_address", Warn(ONE_ADDRESS)),
    ("ipv6_address", Warn(ONE_ADDRESS)),
    ("link_local_ips", Warn(ONE_ADDRESS)),
    ("mac_address", Warn("instances have no network card of their own")),
    ("interface_name", Warn("instances have no network card of their own")),
    ("driver_opts", Warn("there is no network driver")),
    ("priority", Warn(ONE_ADDRESS)),
    ("gw_priority", Warn(ONE_ADDRESS)),
];

const GRANT: Table = &[
    ("source", Support),
    ("target", Support),
    ("uid", Partly("by number")),
    ("gid", Partly("by number")),
    ("mode", Support),
];

const PRE_START: Table = &[
    ("command", Support),
    ("user", Support),
    ("privileged", Partly("as far as the engine itself may")),
    ("working_dir", Support),
    ("environment", Support),
    ("per_replica", Support),
    ("image", Warn("the step runs in the service's own view of the files")),
];

const HOOK: Table = &[
    ("command", Support),
    ("user", Support),
    ("privileged", Partly("as far as the engine itself may")),
    ("working_dir", Support),
    ("environment", Support),
];

const LOGGING: Table = &[
    ("driver", Partly("`json-file`, `local` and `none`; output is not sent elsewhere")),
    ("options", Support),
];

const LOGGING_OPTIONS: Table = &[("max-size", Support), ("max-file", Support)];

const EXTENDS: Table = &[("service", Support), ("file", Support)];

const INCLUDE: Table = &[("path", Support), ("project_directory", Support), ("env_file", Support)];

const VOLUME: Table = &[
    ("name", Support),
    ("external", Support),
    ("labels", Support),
    ("driver", Partly("always `local`")),
    ("driver_opts", Warn("volumes are folders of the engine's state")),
];

const NAMES_ONLY: &str = "networks keep names apart and have no addresses of their own";

const NETWORK: Table = &[
    ("name", Support),
    ("external", Partly("it is a network of this app alone")),
    ("internal", Partly("without root its services reach what the host reaches, which is said")),
    ("labels", Support),
    ("driver", Partly("`bridge` and `overlay` are what networks are; others have no effect")),
    ("driver_opts", Warn(NAMES_ONLY)),
    ("ipam", Warn(NAMES_ONLY)),
    ("attachable", Warn(NAMES_ONLY)),
    ("enable_ipv4", Warn(NAMES_ONLY)),
    ("enable_ipv6", Warn(NAMES_ONLY)),
];

const NO_SWARM: &str = "there is no swarm that would keep it";

const SECRET: Table = &[
    ("name", Support),
    ("file", Support),
    ("environment", Support),
    ("external", Partly("refused where a service uses it: there is no swarm that keeps it")),
    ("labels", Warn(NO_SWARM)),
    ("driver", Warn(NO_SWARM)),
    ("driver_opts", Warn(NO_SWARM)),
    ("template_driver", Warn(NO_SWARM)),
];

const CONFIG: Table = &[
    ("name", Support),
    ("file", Support),
    ("environment", Support),
    ("content", Support),
    ("external", Partly("refused where a service uses it: there is no swarm that keeps it")),
    ("labels", Warn(NO_SWARM)),
    ("template_driver", Warn(NO_SWARM)),
];

const EXTENSION: Table = &[
    ("native", Support),
    ("protocol", Support),
    ("prepare", Support),
    ("balance", Support),
    ("engine", Support),
];

/// Keys that stand where no other of a table does.
pub(crate) const ALONE: &[(&str, Treatment)] = &[
    ("services.*.build.secrets.*.source", Support),
    ("services.*.build.secrets.*.target", Support),
    ("services.*.build.secrets.*.uid", Warn("the step says who owns it")),
    ("services.*.build.secrets.*.gid", Warn("the step says who owns it")),
    ("services.*.build.secrets.*.mode", Warn("the step says who may read it")),
    ("networks.*.external.name", Support),
    ("volumes.*.external.name", Support),
    (
        "secrets.*.external.name",
        Partly("refused where a service uses it: there is no swarm that keeps it"),
    ),
    (
        "configs.*.external.name",
        Partly("refused where a service uses it: there is no swarm that keeps it"),
    ),
];
