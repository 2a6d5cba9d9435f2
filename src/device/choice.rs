//! Which device: `auto | cpu | gpu | <part of a name or PCI id>`.

use serde::Serialize;

use super::kernel::Variant;
use crate::{Error, Result};

/// Which device to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best hardware adapter, else the CPU. Never a software adapter: the CPU twins are faster.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best adapter: hardware where there is any, else a software one.
    Gpu,
    /// The first adapter whose name, driver, PCI bus id or `vendor:device` id contains this (any case).
    Named(String),
}

impl std::str::FromStr for Choice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "" | "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            name => Self::Named(name.to_owned()),
        })
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Named(name) => name,
        })
    }
}

/// What kind of thing an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// Part of the processor.
    Integrated,
    /// Handed through by a hypervisor.
    Virtual,
    /// Not said by the driver.
    Other,
    /// A driver that computes on the CPU, such as lavapipe or SwiftShader.
    Software,
}

/// An adapter that wgpu found.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    /// The adapter's name.
    pub name: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// Discrete, integrated, software, ...
    pub kind: AdapterKind,
    /// The driver and its version.
    pub driver: String,
    /// `vendor:device` in hexadecimal.
    pub id: String,
    /// The PCI bus id, where the backend tells it.
    pub pci: String,
    /// The most bytes that one binding may span.
    pub binding_bytes: u64,
    /// The most bytes that one buffer may hold.
    pub buffer_bytes: u64,
    /// Shared memory of a workgroup, in bytes.
    pub workgroup_bytes: u32,
    /// The most invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Storage buffers that one shader may bind.
    pub storage_buffers: u32,
    /// Smallest and largest subgroup.
    pub subgroups: [u32; 2],
    /// Optional features that a kernel variant may use.
    pub features: Vec<String>,
    #[cfg(feature = "gpu")]
    #[serde(skip)]
    pub(super) handle: wgpu::Adapter,
}

impl Adapter {
    /// Whether `part` (lower case) occurs in the name, driver or ids.
    fn answers_to(&self, part: &str) -> bool {
        [&self.name, &self.driver, &self.id, &self.pci].iter().any(|text| text.to_lowercase().contains(part))
    }

    /// Whether the adapter has what `variant` needs.
    pub fn runs(&self, variant: Variant) -> bool {
        match variant {
            Variant::Core => true,
            Variant::Int64 => self.features.iter().any(|feature| feature == "int64"),
        }
    }

    /// The variant that [`Adapter::open`] takes: the faster one of this kind of adapter, as measured.
    ///
    /// A driver that computes on the CPU has a 64-bit division to use. Cards have none: Mesa's compiler for AMD's makes about five
    /// times the limbs' instructions of it, and products alone gain little.
    pub fn variant(&self) -> Variant {
        if self.kind == AdapterKind::Software && self.runs(Variant::Int64) { Variant::Int64 } else { Variant::Core }
    }

    /// Opens the adapter as a device.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses, or the adapter lies below the floor that every kernel needs.
    pub fn open(&self) -> Result<super::Device> {
        self.open_as(self.variant())
    }

    /// Opens the adapter as a device that runs `variant`.
    ///
    /// # Errors
    /// As [`Adapter::open`], and if the adapter lacks what the variant needs.
    pub fn open_as(&self, variant: Variant) -> Result<super::Device> {
        #[cfg(feature = "gpu")]
        return Ok(super::Device::gpu(super::gpu::Gpu::open(self, variant)?));
        #[cfg(not(feature = "gpu"))]
        return Err(Choice::Named(format!("{} ({variant})", self.name)).nothing(&[]));
    }
}

/// All adapters of this machine, the best first. Empty without the feature `gpu`.
pub fn adapters() -> Vec<Adapter> {
    #[cfg(feature = "gpu")]
    {
        let mut found = super::gpu::enumerate();
        found.sort_by_key(|adapter| adapter.kind);
        found
    }
    #[cfg(not(feature = "gpu"))]
    Vec::new()
}

impl Choice {
    /// The adapter to open, or `None` for the CPU.
    pub(super) fn select(&self) -> Result<Option<Adapter>> {
        let hardware = |adapter: &Adapter| adapter.kind != AdapterKind::Software;
        match self {
            Self::Cpu => Ok(None),
            Self::Auto => Ok(adapters().into_iter().find(hardware)),
            Self::Gpu => adapters().into_iter().next().map(Some).ok_or_else(|| self.nothing(&[])),
            Self::Named(part) => {
                let all = adapters();
                match all.iter().find(|adapter| adapter.answers_to(part)) {
                    Some(adapter) => Ok(Some(adapter.clone())),
                    None => Err(self.nothing(&all)),
                }
            }
        }
    }

    fn nothing(&self, all: &[Adapter]) -> Error {
        let names: Vec<&str> = all.iter().map(|adapter| adapter.name.as_str()).collect();
        let (problem, remedy) = if cfg!(not(feature = "gpu")) {
            ("this build has no GPU support", "build with the feature `gpu`, or use --device cpu".to_owned())
        } else if names.is_empty() {
            (
                "no Vulkan, Metal or DX12 adapter was found",
                "install the GPU's driver (or mesa-vulkan-drivers for a software adapter), or use --device cpu"
                    .to_owned(),
            )
        } else {
            ("no adapter of this name or id", format!("choose auto, cpu, gpu or part of: {}", names.join(" | ")))
        };
        Error::Device { device: self.to_string(), problem: problem.to_owned(), remedy }
    }
}
