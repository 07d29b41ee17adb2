//! The virtual machine: QEMU, with a disk whose requests are recorded.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::guest::{SAYS, STOPPED};
use crate::initramfs::Kernel;

/// A machine in software that is shared starts in less.
const PATIENCE: Duration = Duration::from_secs(180);

/// A processor that runs at all has started the guest by then.
const SOON: Duration = Duration::from_secs(8);

/// How often a machine is started until it is given up.
const TRIES: u32 = 5;

/// What carries out the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accelerator {
    /// The processor
    Kvm,
    /// QEMU
    Tcg,
}

impl Accelerator {
    fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The processor, if a machine starts with it: one within another machine
    /// may have the device and hang. The files are those of a machine that
    /// nobody minds.
    pub(crate) fn find(kernel: &Kernel, files: Files<'_>) -> Result<Self> {
        if File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        let mut machine = Machine::start(kernel, Self::Kvm, files)?;
        let began = machine.line(Instant::now() + SOON).is_ok_and(|line| line.is_some());
        Ok(if began { Self::Kvm } else { Self::Tcg })
    }
}

/// The files of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'d> {
    /// What it starts with.
    pub(crate) initramfs: &'d Path,
    /// Its disk, which it changes.
    pub(crate) disk: &'d Path,
    /// Where the requests go.
    pub(crate) log: &'d Path,
    /// A name for the socket by which it is told to stop.
    pub(crate) control: &'d Path,
}

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Machine {
    child: Child,
    lines: Receiver<String>,
    /// What else came: the kernel's last words, perhaps, or QEMU's.
    other: String,
    control: std::path::PathBuf,
}

impl Machine {
    /// Starts one.
    fn start(kernel: &Kernel, accelerator: Accelerator, files: Files<'_>) -> Result<Self> {
        File::create(files.log)?;
        let option = |text: &str, path: &Path| format!("{text}{}", path.display());
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        // The processor has to give random numbers, or the guest waits for some.
        command.args(["-machine", "q35", "-accel", accelerator.name(), "-cpu", "max", "-smp", "2", "-m", "512"]);
        command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(files.initramfs);
        // Of its messages a panic is shown. A processor in software may be too
        // slow for the check of its timer, on which the kernel would give up.
        command.args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check"]);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command.args(["-qmp", &option("unix:server=on,wait=off,path=", files.control)]);
        command.args(["-blockdev", &option("driver=file,node-name=disk,aio=threads,filename=", files.disk)]);
        command.args(["-blockdev", &option("driver=file,node-name=log,aio=threads,filename=", files.log)]);
        command.args(["-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512"]);
        // Neither discards nor "write zeroes": QEMU before 9.1 mixes the records
        // of the latter up, and a kernel writes zeros where it has neither.
        let disk = "virtio-blk-pci,drive=logged,write-cache=on,discard=off,write-zeroes=off";
        command.args(["-device", disk]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't run qemu-system-x86_64")?;
        let (line, lines) = channel();
        hear(child.stdout.take().expect("piped"), line.clone());
        hear(child.stderr.take().expect("piped"), line);
        Ok(Self { child, lines, other: String::new(), control: files.control.to_owned() })
    }

    /// Starts one, and waits until the guest is there. A kernel on a machine in
    /// software that is starved may not come up: that is tried again, since it
    /// has not touched the disk.
    pub(crate) fn boot(kernel: &Kernel, accelerator: Accelerator, files: Files<'_>) -> Result<Self> {
        let mut tries = 0;
        loop {
            let mut machine = Self::start(kernel, accelerator, files)?;
            tries += 1;
            match machine.line(Instant::now() + PATIENCE) {
                Ok(Some(_)) => return Ok(machine),
                Ok(None) if tries == TRIES => bail!("the guest does not come up: {}", machine.other.trim_end()),
                Err(error) if tries == TRIES => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// Waits until the guest says that the store is open. Gives how it writes.
    pub(crate) fn wait_for_open(&mut self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line(deadline)?.context("the guest has not opened the store")?;
            if let Some(how) = line.strip_prefix("open ") {
                return Ok(how.to_owned());
            }
        }
    }

    /// Waits until the guest has acknowledged so often, or for so long.
    pub(crate) fn wait_for_acknowledgements(&mut self, enough: u64, most: Duration) -> Result<()> {
        let deadline = Instant::now() + most;
        while let Some(line) = self.line(deadline)? {
            let said = line.strip_prefix("said ").and_then(|count| count.parse::<u64>().ok());
            if said.is_some_and(|said| said >= enough) || line == STOPPED {
                break;
            }
        }
        Ok(())
    }

    /// What the guest says next; `None` once it is too late.
    fn line(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.split_once(SAYS) {
                    Some((_, said)) if said.starts_with("failed") => bail!("the guest {said}"),
                    Some((_, said)) => return Ok(Some(said.to_owned())),
                    None => self.other.extend([line.as_str(), "\n"]),
                },
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("the machine ended by itself, {status}: {}", self.other.trim_end());
                }
            }
        }
    }

    /// Takes the power away: stops the processors, lets what the disk has begun
    /// end, so that the record is whole, and ends.
    pub(crate) fn cut(mut self) -> Result<()> {
        let socket = UnixStream::connect(&self.control).context("can't reach the machine")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut answers = BufReader::new(socket.try_clone()?);
        let mut greeting = String::new();
        answers.read_line(&mut greeting)?;
        for verb in ["qmp_capabilities", "stop", "quit"] {
            writeln!(&socket, "{}", serde_json::json!({ "execute": verb }))?;
            let mut answer = String::new();
            while !answer.contains("\"return\"") {
                answer.clear();
                ensure!(answers.read_line(&mut answer)? > 0, "the machine does not answer to {verb}");
                ensure!(!answer.contains("\"error\""), "{verb}: {answer}");
            }
        }
        self.child.wait()?;
        Ok(())
    }
}

/// Passes on lines, those that are no text as well.
fn hear(from: impl Read + Send + 'static, line: Sender<String>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut text = Vec::new();
        while from.read_until(b'\n', &mut text).is_ok_and(|length| length > 0) {
            let _ = line.send(String::from_utf8_lossy(&text).trim_end().to_owned());
            text.clear();
        }
    });
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing to do for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
