//! Engines of a profile.

use super::Draft;
use crate::catalog::engine::Connect;
use crate::profile::trial::{DeviceTrial, Trial};
use crate::profile::{EngineDevice, EngineSetting, EngineVerdict, EvidenceKind, Obstacle, ProfiledEngine};

impl Draft<'_> {
    pub(super) fn engine(&mut self, trial: &Trial) -> ProfiledEngine {
        let devices: Vec<EngineDevice> = trial.devices.iter().map(|device| self.engine_device(trial, device)).collect();
        let verdict = devices.iter().map(|device| device.verdict).min().unwrap_or(EngineVerdict::Unknown);
        let entry = format!("engines/{}/{}", trial.engine, trial.version);
        if devices.is_empty() {
            self.lack(&entry, "there was no device to try it on".to_owned());
        }
        for device in devices.iter().filter(|device| device.verdict == EngineVerdict::Unknown) {
            self.lack(&entry, format!("it was not tried on {}", device.name));
        }
        // A setting is proven by the attempt whose parameter it changes, on a device that works with it.
        let settings = if verdict == EngineVerdict::WorksWithSettings
            || devices.iter().any(|one| one.verdict == EngineVerdict::WorksWithSettings)
        {
            trial
                .settings
                .iter()
                .filter_map(|(setting, value)| {
                    let proof =
                        trial.devices.iter().filter(|device| device.verdict == EngineVerdict::WorksWithSettings).find_map(|device| {
                            let found =
                                device.attempts.iter().find(|(ask, _, _)| ask.settings.iter().any(|own| own.name == setting.name))?;
                            Some(self.book.attempt(&device.device, &found.1, &found.2))
                        })?;
                    Some(EngineSetting { name: setting.name.clone(), value: value.clone(), kind: setting.kind.clone(), evidence: proof })
                })
                .collect()
        } else {
            Vec::new()
        };
        // What keeps queue pairs from being connected has to be mended whatever the release.
        let mut remedies: Vec<String> = Vec::new();
        let tried = if trial.connect == Some(Connect::Oob) { self.material.tried } else { &[] };
        let connections = tried.iter().filter_map(|tried| tried.report.connection.as_ref());
        for next in connections.filter(|one| one.refused.is_some()).filter_map(|one| one.cause.as_ref()?.next_step.as_ref()) {
            if !remedies.contains(next) {
                remedies.push(next.clone());
            }
        }
        for device in trial.devices.iter().filter(|device| device.verdict == EngineVerdict::Fails) {
            for remedy in &device.remedies {
                if !remedies.contains(remedy) {
                    remedies.push(remedy.clone());
                }
            }
        }
        ProfiledEngine { name: trial.engine.clone(), version: trial.version.clone(), verdict, settings, devices, remedies }
    }

    fn engine_device(&mut self, trial: &Trial, device: &DeviceTrial) -> EngineDevice {
        let name = &device.device;
        let mut obstacles: Vec<Obstacle> = device
            .obstacles
            .iter()
            .map(|(summary, request, outcome)| Obstacle { summary: summary.clone(), evidence: self.book.attempt(name, request, outcome) })
            .collect();
        let evidence = device.attempts.iter().map(|(_, request, outcome)| self.book.attempt(name, request, outcome)).collect();
        let report = self.material.report(name);
        // What exchanges addresses by itself needs a connection by ibv_modify_qp.
        if trial.connect == Some(Connect::Oob)
            && let Some(connection) = report.and_then(|report| report.connection.as_ref())
            && let Some(refused) = &connection.refused
        {
            let cause = connection.cause.as_ref().map_or_else(|| refused.clone(), |cause| format!("{} ({refused})", cause.summary));
            obstacles.push(Obstacle {
                summary: format!("its queue pairs come to {} only: {cause}", connection.reached),
                evidence: self.book.add_of(
                    name,
                    EvidenceKind::Connection,
                    format!("{name}: connected with itself up to {}: {refused}", connection.reached),
                ),
            });
        }
        let verdict = if obstacles.is_empty() { device.verdict } else { EngineVerdict::Fails };
        EngineDevice { name: name.clone(), verdict, obstacles, evidence }
    }
}
