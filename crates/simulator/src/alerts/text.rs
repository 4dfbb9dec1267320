//! The words of the pretend world: companies, people, comments and file names, in Danish, Turkish, German and
//! English. The letters matter more than the meaning: `ı` and `i`, `İ` and `I` are four different letters, and
//! a consumer that folds case or counts bytes as characters shall find that out here.

use crate::dice::Dice;

/// The language in which a customer's own texts are written.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Culture {
    Danish,
    Turkish,
    English,
    German,
}

/// Companies with their domain and culture; the first ones make the small demo interesting.
const COMPANIES: &[(&str, &str, Culture)] = &[
    ("Nordlys Energi A/S", "nordlysenergi.dk", Culture::Danish),
    ("Işık Lojistik A.Ş.", "isiklojistik.com.tr", Culture::Turkish),
    ("Finch, Harbour & Co. LLP", "finchharbour.co.uk", Culture::English),
    ("Østerbro Købmandsgård ApS", "osterbrokobmand.dk", Culture::Danish),
    ("Kızılırmak Gıda San. ve Tic. A.Ş.", "kizilirmakgida.com.tr", Culture::Turkish),
    ("Müller & Söhne Maschinenbau GmbH", "mueller-soehne.de", Culture::German),
    ("Blåvand Smede- og Maskinværksted", "blaavandsmed.dk", Culture::Danish),
    ("Çınar Tıp Merkezi", "cinartip.com.tr", Culture::Turkish),
    ("Wren Valley Credit Union", "wrenvalleycu.com", Culture::English),
    ("Vesterhavets Fiskeeksport I/S", "vesterhavfisk.dk", Culture::Danish),
    ("İnci Diş Polikliniği Ltd. Şti.", "incidis.com.tr", Culture::Turkish),
    ("Weißenbach Papierwerke AG", "weissenbach-papier.de", Culture::German),
];

const STEMS: &[(&str, &str, Culture)] = &[
    ("Ærø", "aero", Culture::Danish),
    ("Kıyı", "kiyi", Culture::Turkish),
    ("Ashdown", "ashdown", Culture::English),
    ("Grünau", "gruenau", Culture::German),
    ("Sønderå", "soenderaa", Culture::Danish),
    ("Yıldırım", "yildirim", Culture::Turkish),
    ("Larkfield", "larkfield", Culture::English),
    ("Rødding", "roedding", Culture::Danish),
    ("Şirin", "sirin", Culture::Turkish),
    ("Oakmere", "oakmere", Culture::English),
];

fn trade(culture: Culture, dice: &mut Dice) -> &'static str {
    dice.pick(match culture {
        Culture::Danish => &["Tømrerfirma ApS", "Varmeværk A.m.b.A.", "Lægehus", "Møbler A/S", "Skolebørns Transport"],
        Culture::Turkish => &["Tekstil A.Ş.", "İnşaat Ltd. Şti.", "Otomotiv San. A.Ş.", "Balıkçılık Koop.", "Eğitim Kurumları"],
        Culture::English => &["Logistics Ltd", "Dental Group", "Housing Association", "Robotics plc", "Academy Trust"],
        Culture::German => &["Stadtwerke GmbH", "Getränke KG", "Möbelhaus GmbH", "Klinikverbund gGmbH"],
    })
}

/// Name, mail domain and culture of the customer with this number. Names are unique.
pub(crate) fn company(index: usize, dice: &mut Dice) -> (String, String, Culture) {
    if let Some((name, domain, culture)) = COMPANIES.get(index) {
        return ((*name).to_owned(), (*domain).to_owned(), *culture);
    }
    let (stem, plain, culture) = STEMS[index % STEMS.len()];
    let number = index - COMPANIES.len() + 1;
    (format!("{stem} {} {number}", trade(culture, dice)), format!("{plain}{number}.example"), culture)
}

pub(crate) const fn first_names(culture: Culture) -> &'static [&'static str] {
    match culture {
        Culture::Danish => {
            &["Søren", "Mette", "Bjørn", "Åse", "Jørgen", "Signe", "Kåre", "Birgitte", "Øjvind", "Rasmus", "Frederikke", "Æbbe"]
        }
        Culture::Turkish => &["Işıl", "İbrahim", "Şule", "Çağrı", "Gökçe", "Ömer", "Yıldız", "Kıvanç", "Ayşe", "Sıla", "Özgür", "Nazlı"],
        Culture::English => &["Harriet", "Oliver", "Priya", "Samuel", "Niamh", "George", "Zadie", "Tom", "Beatrix", "Kwame"],
        Culture::German => &["Jürgen", "Käthe", "Günther", "Sophie", "Björn", "Anneliese", "Götz", "Lena", "Uwe"],
    }
}

pub(crate) const fn last_names(culture: Culture) -> &'static [&'static str] {
    match culture {
        Culture::Danish => &["Sørensen", "Kjær", "Møller", "Østergaard", "Nørgaard", "Ågård", "Holm", "Bæk", "Thygesen", "Højlund"],
        Culture::Turkish => &["Yılmaz", "Işık", "Şahin", "Kılıç", "Öztürk", "Çelik", "İnan", "Aydın", "Tığlı", "Ağaoğlu"],
        Culture::English => &["Whitlock", "Okafor", "Hargreaves", "Penrose", "Ellis", "Marchbank", "Sykes", "O'Dowd"],
        Culture::German => &["Weiß", "Schröder", "Bäcker", "Köhler", "Vogt", "Größmann", "Hübner"],
    }
}

/// Which letters of our four languages become which in an account name.
pub(crate) fn plain_letters(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            'ø' | 'ö' => plain.push('o'),
            'Ø' | 'Ö' => plain.push('o'),
            'æ' | 'Æ' => plain.push_str("ae"),
            'å' | 'Å' => plain.push_str("aa"),
            'ı' | 'İ' => plain.push('i'),
            'ş' | 'Ş' => plain.push('s'),
            'ç' | 'Ç' => plain.push('c'),
            'ğ' | 'Ğ' => plain.push('g'),
            'ü' | 'Ü' => plain.push('u'),
            'ä' | 'Ä' => plain.push('a'),
            'ß' => plain.push_str("ss"),
            'A'..='Z' => plain.push(letter.to_ascii_lowercase()),
            'a'..='z' | '0'..='9' | '.' | '-' => plain.push(letter),
            _ => {}
        }
    }
    plain
}

/// What an analyst writes under an alert.
pub(crate) const fn comments(culture: Culture) -> &'static [&'static str] {
    match culture {
        Culture::Danish => &[
            "Ringede til brugeren: kender ikke filen. Maskinen er isoleret, vi går i gang med æøå-listen i morgen.",
            "Falsk alarm, det var den årlige øvelse på Ærø.",
            "Venter på svar fra driften. Løn- og personaleafdelingen er orienteret.",
            "Samme mønster som i går: tjek også \"Økonomi-PC'en\".",
        ],
        Culture::Turkish => &[
            "Kullanıcı arandı, dosyayı tanımıyor. Cihaz ağdan ayrıldı; inceleme sürüyor.",
            "Yanlış alarm: İK'nın planlı sızma testiydi (İstanbul ofisi).",
            "Şifre sıfırlandı, oturumlar kapatıldı. Işıl Hanım bilgilendirildi.",
            "Dün geceki ile aynı IP. \"ağ-geçidi\" kayıtlarına da bakılsın.",
        ],
        Culture::English => &[
            "Spoke to the user, who does not recognise the file. Device isolated, triage continues.",
            "Looks like the quarterly exercise; closing once the red team confirms.",
            "Same pattern as yesterday on the finance laptop. See ticket 48213.\nNext check: 14:00.",
            "Waiting for the customer's IT partner to rotate the service account.",
        ],
        Culture::German => &[
            "Rücksprache mit der Nutzerin: Datei unbekannt. Gerät isoliert, Prüfung läuft.",
            "Fehlalarm, geplante Übung in Weißenbach.",
            "Kennwort zurückgesetzt, Sitzungen beendet. Bitte auch die Außenstelle prüfen.",
        ],
    }
}

/// Documents people have lying about.
pub(crate) const fn documents(culture: Culture) -> &'static [&'static str] {
    match culture {
        Culture::Danish => {
            &["Lønoversigt æøå 2024.xlsx", "Tilbud på kørsel - Århus.pdf", "Nøglekort_og_koder.docx", "Årsrapport (udkast).docx"]
        }
        Culture::Turkish => &["maaş_listesi_ışık.xlsx", "Sözleşme (İstanbul).pdf", "şifreler_güncel.docx", "Yıllık izin çizelgesi.xlsx"],
        Culture::English => &["Payroll 2024 FINAL (2).xlsx", "Board minutes - draft.docx", "passwords.txt", "Invoice_88213.pdf"],
        Culture::German => &["Gehaltsübersicht 2024.xlsx", "Angebot Straßenbau.pdf", "Schlüsselplan.docx"],
    }
}

/// Titles of rules the customer wrote in their own language.
pub(crate) const fn own_rule_titles(culture: Culture) -> &'static [&'static str] {
    match culture {
        Culture::Danish => {
            &["Usædvanlig hentning af løndata uden for åbningstiden", "Brugerkonto låst på mere end tre maskiner på én gang"]
        }
        Culture::Turkish => {
            &["Şüpheli oturum açma: gece yarısı dışarıdan İK klasörüne erişim", "Aynı hesap ile kısa sürede ikiden çok ülkeden giriş"]
        }
        Culture::English => &["Bulk download from the payroll share out of hours", "Break-glass account used without a change ticket"],
        Culture::German => &["Ungewöhnlicher Massenabruf aus der Lohnbuchhaltung", "Notfallkonto ohne Änderungsantrag genutzt"],
    }
}

/// Subjects of the mail that brought the trouble.
pub(crate) const fn mail_subjects(culture: Culture) -> &'static [&'static str] {
    match culture {
        Culture::Danish => {
            &["Påmindelse: ubetalt regning nr. 20418", "Din pakke afventer på lageret i Køge", "Opdatér dit MitID inden i aften"]
        }
        Culture::Turkish => {
            &["Ödenmemiş fatura hatırlatması: acil", "Kargonuz şubede bekliyor, adresinizi doğrulayın", "İmza gerekiyor: sözleşme_ek_2"]
        }
        Culture::English => {
            &["Overdue invoice - action needed today", "You have (3) undelivered messages", "Shared with you: \"Salary review\""]
        }
        Culture::German => &["Mahnung: Rechnung überfällig", "Ihr Paket wartet in Köln auf Abholung"],
    }
}

/// What to do next, as the product would put it; joined in varying number to vary the size.
pub(crate) const ACTIONS: &[&str] = &[
    "A. Confirm that the alert is real\n\u{2022}\tCompare the activity with the change calendar and ask the owner of the device whether it was expected.\n\u{2022}\tOpen the timeline of the device and note what ran ten minutes before and after.",
    "B. Find out how far it went\n\u{2022}\tLook for the same file, address or account on other devices.\n\u{2022}\tList every sign-in of the account since the first activity and mark places that do not fit.\n\u{2022}\tHand unknown files to deep analysis and keep the report with the incident.",
    "C. Stop it\n\u{2022}\tTake the device off the network until the owner has been reached.\n\u{2022}\tEnd all sessions of the account and have its password set anew.\n\u{2022}\tBlock the addresses and domains named in the evidence at the edge.",
    "D. Clean up and learn\n\u{2022}\tRemove what was made to survive a restart: services, tasks, run keys and mailbox rules.\n\u{2022}\tBring signatures and system updates up to date, then run a full scan.\n\u{2022}\tWrite down which control would have stopped this and who will put it in place.",
    "E. If credentials may have been read\n\u{2022}\tTreat every account that was signed in on the device as known to the attacker.\n\u{2022}\tRotate the secrets of services running there, beginning with the most powerful one.",
];

/// Sentences that follow a template's own description.
pub(crate) const BACKGROUND: &[&str] = &[
    "The behaviour was seen together with other unusual activity on the same device within a short time.",
    "Attackers like this technique because it needs no file on disk and blends in with the work of administrators.",
    "Similar activity has been observed shortly before data left the organisation, so an early answer saves a lot of work later.",
    "The account involved had not shown this behaviour during the learning period of the last thirty days.",
    "If the activity is part of a planned test, classify the alert as expected so that the model learns from it.",
];
