//! The PINs of links: set, taken away, and held against what a partner hands over.

use disclosure::Secret;
use gate::PinFault;
use links::pin::{PIN_ATTEMPTS_MAX, Pin};

use super::*;

/// How the keys of the store begin.
const PREFIX: &str = "pin/";

/// The store's key of a link's PIN.
pub(super) fn key(link: &LinkId) -> String {
    format!("{PREFIX}{link}")
}

/// Takes a stored one in: none when it is of something else, false when it can't be read.
pub(super) fn restore(pins: &mut BTreeMap<LinkId, Pin>, key: &str, value: &str) -> Option<bool> {
    let link = key.strip_prefix(PREFIX)?;
    let read = LinkId::new(link).ok().zip(serde_json::from_str(value).ok());
    Some(read.map(|(link, pin)| pins.insert(link, pin)).is_some())
}

/// What the store is to hold of a key: none of one that is of something else.
pub(super) fn entry(pins: &BTreeMap<LinkId, Pin>, key: &str) -> Option<Option<String>> {
    let link = key.strip_prefix(PREFIX)?;
    Some(LinkId::new(link).ok().and_then(|link| to_json(pins.get(&link)?).ok()))
}

impl Core {
    /// Gives a link a PIN; attempts are counted anew.
    pub(super) async fn pin_set(&self, who: &str, digits: String) -> Result<Value, String> {
        let link = self.one_link(who)?;
        if !links::hands_pins(&link.partner) {
            let partner = &link.partner;
            return Err(format!(
                "{partner} hands no PIN over, so it needs none here: see `vestibule grant add --partner-code`"
            ));
        }
        let salt = random::<16>()?;
        let pin = blocking(move || Pin::new(&digits, &salt).map_err(|e| chain(&e))).await?;
        let _one = self.pin_checks.lock().await;
        // It may have ended meanwhile: nothing of it is left then.
        if self.state().links.get(&link.id).is_none() {
            return Err(no_link(&link.id));
        }
        let leaf = self.pin_leaf(&link, "set")?;
        let entries = vec![(key(&link.id), Some(to_json(&pin)?))];
        self.try_give(OWNER, &[leaf], &[], &entries).await?;
        lock(&self.pins).insert(link.id.clone(), pin);
        Ok(json!({"link": link.id}))
    }

    /// Takes a link's PIN away: at once, what needs it is refused.
    pub(super) async fn pin_clear(&self, who: &str) -> Result<Value, String> {
        let link = self.one_link(who)?;
        let _one = self.pin_checks.lock().await;
        if lock(&self.pins).remove(&link.id).is_none() {
            return Err(format!("the link `{}` has no PIN", link.id));
        }
        self.append(vec![self.pin_leaf(&link, "taken away")?], vec![(key(&link.id), None)]).await?;
        Ok(json!({"link": link.id}))
    }

    fn pin_leaf(&self, link: &Link, what: &str) -> Result<Draft, String> {
        let hash = Digest::new(self.state().table().policy_hash());
        let change = format!("the PIN of the link was {what}");
        policy_leaf(self.now(), (hash, hash), OWNER, change, Some(link.id.clone()), Vec::new())
    }

    /// The links that have a PIN.
    pub(super) fn pin_rows(&self) -> Value {
        let now = self.now();
        let pins = lock(&self.pins).clone();
        let gate = self.state();
        let row = |(link, pin): (&LinkId, &Pin)| {
            let partner = gate.links.get(link).map(|l| &l.partner);
            json!({"link": link, "partner": partner, "locked_until": pin.locked(now).map(Timestamp::to_rfc3339)})
        };
        pins.iter().map(row).collect()
    }

    /// Holds what a partner handed over against a link's PIN. The attempt is durable before it is tried, so that no restart
    /// gives another one.
    pub async fn check_pin(&self, link: &LinkId, digits: Secret, now: Timestamp) -> Result<(), PinFault> {
        let _one = self.pin_checks.lock().await;
        let pin = lock(&self.pins).get(link).cloned().ok_or(PinFault::Wrong)?;
        let tried = pin.attempt(now).map_err(|_| PinFault::Locked)?;
        lock(&self.pins).insert(link.clone(), tried.clone());
        self.keep_pin(link, &tried).await?;
        let asked = tried.clone();
        let fits = blocking(move || Ok(asked.fits(digits.reveal()))).await.unwrap_or(false);
        if !fits {
            if let Some(until) = tried.locked(now) {
                let until = until.to_rfc3339();
                tracing::warn!(%link, "{PIN_ATTEMPTS_MAX} wrong PINs in a row: the link's is not taken until {until}");
            }
            return Err(PinFault::Wrong);
        }
        let right = tried.right();
        // What counts against it stays until that it was right is stored: so it is no way around the limit.
        self.keep_pin(link, &right).await?;
        lock(&self.pins).insert(link.clone(), right);
        Ok(())
    }

    async fn keep_pin(&self, link: &LinkId, pin: &Pin) -> Result<(), PinFault> {
        let entry = to_json(pin).map(|json| vec![(key(link), Some(json))]);
        let kept = match entry {
            Ok(entry) => self.try_append(&[], &entry).await.map(drop),
            Err(error) => Err(error),
        };
        kept.map_err(|error| {
            tracing::error!(%error, "an attempt at a PIN could not be counted, and was not taken");
            PinFault::NotRecorded
        })
    }
}

#[cfg(test)]
mod tests {
    use links::pin::PIN_LOCKOUT_MS;

    use super::*;

    struct At(std::sync::atomic::AtomicI64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
        }
    }

    /// A hub with a link of a partner that hands PINs over.
    async fn hub(data: &Path, clock: &Arc<At>) -> (Arc<Core>, LinkId) {
        let config = Config::load(None, std::iter::empty()).unwrap();
        let core = Core::open(data, config, Arc::<At>::clone(clock)).await.unwrap();
        let id = LinkId::new("lnk").unwrap();
        let partner = PartnerId::new("somebody").unwrap();
        let now = core.now();
        let (link, _) = Link::new(id.clone(), core.household.clone(), partner, "none".into(), now, ([1; 32], [2; 32]));
        core.put(vec![(format!("link/{id}"), Some(to_json(&link).unwrap()))]).await.unwrap();
        core.state().links.insert(link);
        (core, id)
    }

    #[tokio::test]
    async fn attempts_are_counted_over_restarts_and_the_digits_are_stored_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(At(1_764_000_000_000.into()));
        let (core, link) = hub(dir.path(), &clock).await;
        let attempt = async |core: &Core, pin: &str| core.check_pin(&link, Secret::new(pin), core.now()).await;
        assert_eq!(attempt(&core, "83615204").await, Err(PinFault::Wrong), "there is none");
        assert!(core.pin_set("lnk", "836152x4".to_owned()).await.unwrap_err().contains("4 to 12 digits"));
        core.pin_set("lnk", "83615204".to_owned()).await.unwrap();
        assert_eq!(attempt(&core, "83615204").await, Ok(()));
        for _ in 0..3 {
            assert_eq!(attempt(&core, "83615205").await, Err(PinFault::Wrong));
        }
        core.close().await;
        drop(core);
        let (core, _) = hub(dir.path(), &clock).await;
        for _ in 0..2 {
            assert_eq!(attempt(&core, "83615205").await, Err(PinFault::Wrong));
        }
        assert_eq!(attempt(&core, "83615204").await, Err(PinFault::Locked));
        core.close().await;
        drop(core);
        let (core, _) = hub(dir.path(), &clock).await;
        assert_eq!(attempt(&core, "83615204").await, Err(PinFault::Locked));
        assert!(core.pin_rows()[0]["locked_until"].is_string());
        clock.0.fetch_add(PIN_LOCKOUT_MS, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(attempt(&core, "83615204").await, Ok(()));
        core.pin_clear("lnk").await.unwrap();
        assert_eq!(attempt(&core, "83615204").await, Err(PinFault::Wrong));
        core.close().await;
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
            assert!(!bytes.windows(8).any(|w| w == b"83615204" || w == b"83615205"));
        }
    }

    #[tokio::test]
    async fn a_pin_ends_with_its_link_also_while_one_is_looked_at_or_set() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(At(1_764_000_000_000.into()));
        let (core, link) = hub(dir.path(), &clock).await;
        core.pin_set("lnk", "83615204".to_owned()).await.unwrap();
        let (_, ended) =
            tokio::join!(core.check_pin(&link, Secret::new("83615204"), core.now()), core.unlink(link.clone()));
        ended.unwrap();
        let stored = |core: &Core| {
            let all = core.writer.reader().load_held().unwrap();
            all.into_iter().filter(|(key, _)| key.starts_with(PREFIX)).count()
        };
        assert_eq!((core.pin_rows(), stored(&core)), (json!([]), 0));
        core.close().await;
        drop(core);
        // Set for a link that ends while it is hashed.
        let (core, _) = hub(dir.path(), &clock).await;
        let (set, ended) = tokio::join!(core.pin_set("lnk", "83615204".to_owned()), core.unlink(link.clone()));
        ended.unwrap();
        assert!(set.unwrap_err().contains("there is no link `lnk`"));
        assert_eq!((core.pin_rows(), stored(&core)), (json!([]), 0));
        // What an older version has left is taken out.
        core.put(vec![(key(&link), Some(to_json(&Pin::new("83615204", &[0; 16]).unwrap()).unwrap()))]).await.unwrap();
        assert_eq!(stored(&core), 1);
        core.close().await;
        drop(core);
        let config = Config::load(None, std::iter::empty()).unwrap();
        let core = Core::open(dir.path(), config, Arc::<At>::clone(&clock)).await.unwrap();
        assert_eq!((core.pin_rows(), stored(&core)), (json!([]), 0));
        core.close().await;
    }
}
