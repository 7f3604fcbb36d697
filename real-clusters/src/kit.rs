//! What the machine needs before a cluster can be brought up. Idempotent: a second call costs milliseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::image::{self, Entry};
use crate::process::run;

/// The newest Kubernetes whose servers Debian's sources build.
const VERSION: &str = "1.20.2";
const BINARIES: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];
const PACKAGES: &[&str] = &[
    "etcd-server",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "conntrack",
    "ethtool",
    "socat",
    "iproute2",
    "procps",
    "curl",
    "zstd",
    "dnsutils",
    "bind9",
    "unbound",
    "nsd",
    "knot",
    "knot-dnsutils",
    "knot-resolver",
    "fstrm-bin",
    "ca-certificates",
    "faketime",
    "gcc",
    "libc6-dev",
];
/// Needed only where the Kubernetes binaries must be built.
const BUILD_PACKAGES: &[&str] = &[
    "golang-1.19-go",
    "golang-github-modern-go-reflect2-dev",
    "golang-github-modern-go-concurrent-dev",
    "rsync",
    "make",
    "dpkg-dev",
    "jq",
];
const PAUSE: &str = "registry.local/pause:1";
/// Image of the test web server.
pub(crate) const WEB: &str = "registry.local/site:1";

/// Binaries and images on this machine.
#[derive(Clone, Debug)]
pub struct Kit {
    root: PathBuf,
}

impl Kit {
    /// Installs and builds what is missing, under `$FEDERATION_KIT` or `~/.cache/federation-kit`. The Kubernetes binaries come from
    /// `$KUBERNETES_BINARIES` (a folder of `<name>.zst`), from `../shared/kubernetes-1.20.2`, or from Debian's source package, ten minutes of build.
    ///
    /// # Errors
    /// When the user is not root, or an installation or a build fails.
    pub fn ensure() -> Result<Self> {
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
        let root = std::env::var("FEDERATION_KIT")
            .map_or_else(|_| Path::new(&home).join(".cache/federation-kit"), PathBuf::from);
        let kit = Self { root };
        if fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) != 0) {
            bail!("real clusters need root: they make network namespaces and run containerd");
        }
        for folder in ["bin", "images"] {
            fs::create_dir_all(kit.root.join(folder))?;
        }
        install_packages(
            PACKAGES,
            &[
                "etcd",
                "containerd",
                "runc",
                "iptables",
                "conntrack",
                "ip",
                "curl",
                "zstd",
                "dig",
                "kdig",
                "named",
                "kresd",
                "faketime",
                "fstrm_capture",
            ],
        )?;
        kit.binaries()?;
        kit.netdelay()?;
        kit.images()?;
        Ok(kit)
    }

    /// The path of one of the kit's programs.
    pub fn program(&self, name: &str) -> String {
        self.root.join("bin").join(name).to_string_lossy().into_owned()
    }

    /// Image archives to import into each node.
    pub(crate) fn archives(&self) -> Vec<PathBuf> {
        ["pause.tar", "site.tar"].iter().map(|name| self.root.join("images").join(name)).collect()
    }

    /// Reference of the sandbox image.
    pub(crate) fn pause_image() -> &'static str {
        PAUSE
    }

    fn binaries(&self) -> Result<()> {
        if BINARIES.iter().all(|name| self.root.join("bin").join(name).exists()) {
            return Ok(());
        }
        match cache() {
            Some(cache) => {
                for name in BINARIES {
                    let target = self.root.join("bin").join(name);
                    let partial = target.with_extension("partial");
                    run(Command::new("zstd")
                        .args(["-q", "-d", "-f", "-o"])
                        .arg(&partial)
                        .arg(cache.join(format!("{name}.zst"))))?;
                    run(Command::new("chmod").arg("755").arg(&partial))?;
                    fs::rename(partial, target)?;
                }
                Ok(())
            }
            None => self.build(),
        }
    }

    /// Builds Kubernetes from Debian's source package, with a private list of sources: the machine's own stays as it is.
    fn build(&self) -> Result<()> {
        eprintln!("building Kubernetes {VERSION} from Debian's source package: about ten minutes, once");
        install_packages(BUILD_PACKAGES, &["rsync", "make", "jq", "dpkg-source"])?;
        run(Command::new("sh").arg("-euc").arg(BUILD_SCRIPT).arg("build").arg(&self.root)).map(drop)
    }

    fn netdelay(&self) -> Result<()> {
        let target = self.root.join("bin/netdelay");
        // Built anew when its source changed.
        Self::compile(include_str!("../programs/netdelay.rs"), &target, &[])
    }

    fn images(&self) -> Result<()> {
        let program = self.root.join("bin/site");
        Self::compile(include_str!("../programs/site.rs"), &program, &["-C", "target-feature=+crt-static"])?;
        let content = fs::read(&program)?;
        let file = [Entry { path: "/bin/site", content: &content }];
        image::write(&self.root.join("images/pause.tar"), PAUSE, &["/bin/site", "pause"], &file)?;
        image::write(&self.root.join("images/site.tar"), WEB, &["/bin/site", "web"], &file)
    }

    fn compile(source: &str, target: &Path, flags: &[&str]) -> Result<()> {
        let kept = target.with_extension("rs");
        if target.exists() && fs::read_to_string(&kept).is_ok_and(|old| old == source) {
            return Ok(());
        }
        fs::write(&kept, source)?;
        run(Command::new("rustc").args(["--edition=2024", "-O"]).args(flags).arg("-o").arg(target).arg(&kept))
            .map(drop)
    }
}

fn cache() -> Option<PathBuf> {
    let named = std::env::var_os("KUBERNETES_BINARIES").map(PathBuf::from);
    // From a checkout, and from a crate inside it (where tests run).
    let near =
        ["../shared", "../../shared"].map(|shared| Path::new(shared).join(format!("kubernetes-{VERSION}")));
    named.into_iter().chain(near).find(|folder| folder.join("kube-apiserver.zst").exists())
}

fn install_packages(packages: &[&str], commands: &[&str]) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let there = |command: &str| {
        path.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| Path::new(folder).join(command).exists())
    };
    let go = !packages.contains(&"golang-1.19-go") || Path::new("/usr/lib/go-1.19/bin/go").exists();
    let cni = !packages.contains(&"containernetworking-plugins") || Path::new("/usr/lib/cni/bridge").exists();
    if go && cni && commands.iter().all(|command| there(command)) {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages))
    .context("cannot install Debian packages")
    .map(drop)
}

/// Argument 1: the kit's root.
const BUILD_SCRIPT: &str = r#"
root=$1
source=$(mktemp -d); trap 'rm -rf "$source"' EXIT
mirror=$(awk '/^URIs/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || awk '/^deb /{print $2; exit}' /etc/apt/sources.list)
mkdir -p "$source/lists/partial"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" > "$source/sources.list"
apt="-o APT::Sandbox::User=root -o Dir::Etc::SourceList=$source/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$source/lists"
apt-get $apt update -qq
cd "$source"
apt-get $apt source -qq --download-only kubernetes
dpkg-source -x kubernetes_*.dsc k8s
cd k8s
# The vendored reflect2 is too old for Go 1.18 and later: YAML answers, custom resources and webhooks would crash the server.
reflect=vendor/github.com/modern-go/reflect2
rm -f $reflect/*.go $reflect/*.s
cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.go /usr/share/gocode/src/github.com/modern-go/reflect2/*.s $reflect/
PATH=/usr/lib/go-1.19/bin:$PATH GO111MODULE=off GOFLAGS= GOPROXY=off make \
  WHAT="cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler cmd/kubelet cmd/kube-proxy" GOLDFLAGS="-s -w" \
  KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20
for binary in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
  install _output/local/go/bin/$binary "$root/bin/$binary"
done
"#;
